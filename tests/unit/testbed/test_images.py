"""What goes into an image's hash, and archives that say what they hold."""

import tarfile
from pathlib import Path

import pytest

from testbed.errors import TestbedError
from testbed.images.archive import write_archive
from testbed.images.build import content_hash, context_files
from testbed.images.store import name_of

ROOT = Path(__file__).parents[3]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("Dockerfile", "src/a.py", "src/__pycache__/a.pyc", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text("*\n!src\n**/__pycache__\n")
    return tmp_path


def test_only_what_dockerignore_lets_through_counts(context: Path) -> None:
    assert [p.relative_to(context).as_posix() for p in context_files(context)] == ["src/a.py"]


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("src/a.py", True),
        ("Dockerfile", True),
        ("notes.txt", False),
        ("src/__pycache__/a.pyc", False),
    ],
)
def test_the_hash_follows_the_content(context: Path, file: str, changes: bool) -> None:
    def hash_now() -> str:
        return content_hash("x:1", context, context / "Dockerfile", {})

    before = hash_now()
    (context / file).write_text("changed")
    assert (hash_now() != before) == changes


def test_build_arguments_and_tag_are_part_of_the_hash(context: Path) -> None:
    dockerfile = context / "Dockerfile"
    hashes = {
        content_hash("x:1", context, dockerfile, {}),
        content_hash("x:2", context, dockerfile, {}),
        content_hash("x:1", context, dockerfile, {"A": "1"}),
    }
    assert len(hashes) == 3


def test_the_operators_context_holds_what_its_dockerfile_copies_and_no_tests() -> None:
    names = {p.relative_to(ROOT).as_posix() for p in context_files(ROOT)}
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements/operator.lock"} <= names
    assert "operator/podium/__init__.py" in names
    assert not [n for n in names if n.startswith(("tests/", "testbed/", ".git/"))]


@pytest.mark.parametrize(
    ("tag", "full"),
    [
        ("serving:1", "docker.io/library/serving:1"),
        ("team/serving:1", "docker.io/team/serving:1"),
        ("example.org/serving:1", "example.org/serving:1"),
    ],
)
def test_an_archive_names_its_image(tmp_path: Path, tag: str, full: str) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w"):
        pass
    write_archive(tmp_path / "image.tar", tag, layer, {"Cmd": ["x"]})
    assert name_of(tmp_path / "image.tar") == full


def test_something_else_than_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("no tar")
    with pytest.raises(TestbedError, match="not a docker-archive"):
        name_of(tmp_path / "x.tar")
