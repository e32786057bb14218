"""Where a version's files came from, read from its `source`. Parses; asks no server."""

from __future__ import annotations

MAX_COPIES = 10
_SCHEME = "models:/"


def logged_model_in(source: str) -> str | None:
    """The id in `models:/m-<id>`, or None for a source of another form."""
    path = source.removeprefix(_SCHEME)
    if path == source or "/" in path or "@" in path or not path.startswith("m-"):
        return None
    return path


def version_in(source: str) -> tuple[str, str] | None:
    """Name and version in `models:/<name>/<version>`, or None for a source of another form."""
    path = source.removeprefix(_SCHEME)
    name, slash, version = path.rpartition("/")
    if path == source or not slash or not name or not (version.isascii() and version.isdigit()):
        return None
    return name, version
