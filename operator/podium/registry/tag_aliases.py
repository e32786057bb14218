"""Aliases on servers before MLflow 2.3, which have none: a version tag `alias_<alias>` = "true".

Says which version holds an alias; the client sets and removes the tags.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podium.registry.model import RegisteredModel, Version
from podium.registry.wire import version_number

PREFIX = "alias_"
SET = "true"


def tag_of(alias: str) -> str:
    """The version tag that stands for the alias."""
    return f"{PREFIX}{alias}"


def holders(alias: str, versions: Iterable[Version]) -> list[str]:
    """Every version that carries the alias; more than one while a move is under way."""
    return [version.version for version in versions if version.tags.get(tag_of(alias)) == SET]


def with_aliases(model: RegisteredModel, versions: Iterable[Version]) -> RegisteredModel:
    """The model with the aliases that its versions' tags spell out.

    Of two holders the higher number counts. A move sets the new tag before it removes the old
    one, so this shows a move forward once its first step is done, and a move back once its last
    is; both are done by repeating them.
    """
    aliases: dict[str, str] = {}
    for version in sorted(versions, key=version_number):
        for key, value in version.tags.items():
            if key.startswith(PREFIX) and value == SET:
                aliases[key.removeprefix(PREFIX)] = version.version
    return msgspec.structs.replace(model, aliases=aliases)
