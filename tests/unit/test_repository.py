"""What must be true of the repository itself."""

import ast
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT, capture_output=True, text=True, check=True,
).stdout.split("\0")  # fmt: skip
FILES = [path for path in (ROOT / name for name in TRACKED if name) if path.is_file()]
MARKDOWN = [path for path in FILES if path.suffix == ".md"]
YAML = [path for path in FILES if path.suffix in (".yaml", ".yml")]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_operator_is_a_folder_and_not_a_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert operator.add(2, 3) == 5
    assert ROOT not in Path(str(operator.__file__)).parents


def test_import_operator_is_pythons_from_the_top_of_the_repository() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import collections, operator; print(operator.__file__)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert not said.startswith(str(ROOT / "operator"))


@pytest.mark.parametrize("path", YAML, ids=relative)
def test_yaml_parses(path: Path) -> None:
    assert [document for document in yaml.safe_load_all(path.read_text()) if document]


def test_there_is_yaml_and_markdown_to_look_at() -> None:
    assert len(YAML) > 10
    assert len(MARKDOWN) > 3


@pytest.mark.parametrize("path", MARKDOWN, ids=relative)
def test_links_to_files_and_headings_resolve(path: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        where, _, heading = link.partition("#")
        target = (path.parent / where).resolve() if where else path
        assert target.exists(), f"{relative(path)}: {link}"
        if heading:
            assert heading in anchors(target), f"{relative(path)}: no heading for {link}"


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")
        for heading in headings
    }


def test_every_module_begins_with_what_it_is_for() -> None:
    for path in sorted((ROOT / "operator" / "podium").rglob("*.py")):
        tree = ast.parse(path.read_text())
        assert not tree.body or ast.get_docstring(tree), f"{relative(path)} has no docstring"
