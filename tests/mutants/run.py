"""mutmut over a copy of the engine and the gates: `make mutants MODULES="engine.blame gates"`.

Mutants are made and tried in build/mutants, so that nothing here changes under anybody's hands.
Not made: mutants of words for people (text with a space in it), and calls without a positional
argument (a TypeError says nothing about the tests). Not tried: what takes whole seconds (random
histories, status at its largest), so that a mutant costs about one second.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import libcst as cst
import libcst.matchers as m

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutants"
SLOW = "not any_pass and not 32_kib and not long_ago"
CONFIG = f"""\
[tool.mutmut]
source_paths = ["podium"]
only_mutate = ["podium/engine/*", "podium/gates/*"]
pytest_add_cli_args = ["--import-mode=importlib", "-p", "no:cacheprovider", "-k", "{SLOW}"]
pytest_add_cli_args_test_selection = ["tests/unit/engine", "tests/unit/gates"]
timeout_multiplier = 5.0
timeout_constant = 90.0
use_git_change_detection = false
track_dependencies = false

[tool.pytest.ini_options]
pythonpath = ["."]
asyncio_mode = "auto"
"""
RANDOM = ("test_oracle.py", "test_properties.py")


def copy() -> None:
    """The package at the root, where mutmut finds its module names; verdicts of an earlier run on
    unchanged functions are kept."""
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "pyproject.toml").write_text(CONFIG)
    ignored = shutil.ignore_patterns("__pycache__", *RANDOM)
    for name, source in (
        ("podium", ROOT / "operator" / "podium"),
        ("tests/unit/engine", ROOT / "tests" / "unit" / "engine"),
        ("tests/unit/gates", ROOT / "tests" / "unit" / "gates"),
    ):
        shutil.rmtree(WORK / name, ignore_errors=True)
        shutil.copytree(source, WORK / name, ignore=ignored)


def arguments(node: cst.Call) -> Iterator[cst.Call]:
    """None for an argument; and each one that has a keyword left out."""
    for i, arg in enumerate(node.args):
        if arg.star == "" and not m.matches(arg.value, m.Name("None")):
            none = arg.with_changes(value=cst.Name("None"))
            yield node.with_changes(args=[*node.args[:i], none, *node.args[i + 1 :]])
    for i, arg in enumerate(node.args):
        if arg.keyword is not None and len(node.args) > 1:
            yield node.with_changes(args=[*node.args[:i], *node.args[i + 1 :]])


def choose_mutations() -> None:
    from mutmut.mutation import mutators

    string = mutators.operator_string

    def identifiers(node: cst.BaseString) -> Iterator[cst.BaseString]:
        words = isinstance(node, cst.SimpleString) and " " in node.value
        yield from () if words else string(node)

    chosen = {string: identifiers, mutators.operator_arg_removal: arguments}
    mutators.mutation_operators[:] = [
        (kind, chosen.get(make, make)) for kind, make in mutators.mutation_operators
    ]


def main() -> None:
    copy()
    os.chdir(WORK)
    names = [f"podium.{name}.*" for name in sys.argv[1:]] or ["podium.*"]
    sys.argv = ["mutmut", "run", "--max-children", "1", *names]
    choose_mutations()
    from mutmut.__main__ import cli

    cli()


if __name__ == "__main__":
    main()
