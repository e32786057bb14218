"""What the work queue holds: which object is to be looked at."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    PROMOTION = "ModelPromotion"
    REGISTRY = "ModelRegistry"


class Name(NamedTuple):
    """A namespaced name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Key(NamedTuple):
    kind: Kind
    name: Name
