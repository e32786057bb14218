"""mutmut over a copy of the engine and the gates: `make mutants MODULES="engine.blame gates"`, or
`make mutants SAMPLE=600`, so many of all, drawn at random: hours become half an hour.

Mutants are made and tried in build/mutants, so that nothing here changes under anybody's hands.
Not made: mutants of words for people (text with a space in it), and calls without a positional
argument (a TypeError says nothing about the tests). Not tried: what takes whole seconds (random
histories, status at its largest), so that a mutant costs about one second.
"""

import argparse
import json
import os
import random
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


def drawn(number: int, seed: int) -> list[str]:
    """Names of mutants, out of all that were made; what was known of any is forgotten."""
    names: list[str] = []
    for path in sorted((WORK / "mutants").rglob("*.meta")):
        meta = json.loads(path.read_text())
        names += sorted(meta["exit_code_by_key"])
        meta["exit_code_by_key"] = dict.fromkeys(meta["exit_code_by_key"])
        path.write_text(json.dumps(meta))
    return random.Random(seed).sample(names, min(number, len(names)))


def mutmut(*names: str) -> None:
    sys.argv = ["mutmut", "run", "--max-children", str(os.cpu_count()), *names]
    choose_mutations()
    from mutmut.__main__ import cli

    cli()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--sample", type=int, metavar="N", help="N of all modules' mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    given = parser.parse_args()
    copy()
    os.chdir(WORK)
    if given.sample is None:
        mutmut(*(f"podium.{name}.*" for name in given.modules) if given.modules else ("podium.*",))
        return
    if os.fork() == 0:  # mutmut makes mutants only on the way to trying some
        try:
            mutmut("podium.none_of_them")
        finally:
            os._exit(0)
    os.wait()
    mutmut(*drawn(given.sample, given.seed))


if __name__ == "__main__":
    main()
