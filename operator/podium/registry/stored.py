"""A registered model as the server wrote it, decoded when somebody asks for it.

A poll of ten thousand models finds nearly all of them written as they were at the last one: to
know that, nobody needs their tags as dicts and their times as datetimes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from podium.registry.model import RegisteredModel


@dataclass(frozen=True)
class StoredModel:
    """`digest` is the same while the server writes the same; None: compare what is decoded.
    `decode` raises NotMlflow when what is written has another form."""

    name: str
    digest: bytes | None
    decode: Callable[[], RegisteredModel]

    @classmethod
    def of(cls, model: RegisteredModel) -> StoredModel:
        """One that had to be decoded already."""
        return cls(model.name, None, lambda: model)


def digest_of(written: bytes) -> bytes:
    """What `StoredModel.digest` is of."""
    return hashlib.blake2b(written, digest_size=16).digest()
