"""What was last read of each model, packed: ten thousand of them, with the tags that the ledger
leaves there, must stay small. Unpacked when a pass asks for one.

Keeps and gives; what is news, and what an own write makes old, is decided in `connected`.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from podium.registry.model import RegisteredModel, Version


@dataclass(frozen=True)
class Snapshot:
    """A model as it was at `read_at` (monotonic); None: it did not exist. `complete`: all
    versions are here, as of that moment."""

    read_at: float
    model: RegisteredModel | None
    versions: Mapping[str, Version]
    complete: bool


def whole(read_at: float, model: RegisteredModel | None, versions: Iterable[Version]) -> Snapshot:
    """With all versions, asked for after the model. One that the model names among its newest and
    they lack is there all the same: their answer was older (a replica of the database)."""
    newest = model.latest_versions if model is not None else ()
    return Snapshot(read_at, model, {v.version: v for v in (*newest, *versions)}, complete=True)


class _Content(msgspec.Struct, array_like=True):
    model: RegisteredModel | None
    versions: Mapping[str, Version]


@dataclass(slots=True)
class _Packed:
    read_at: float
    complete: bool
    written: bytes | None  # digest of what the server wrote of the model when a poll kept this
    content: bytes


class Snapshots:
    """One for each model that was read."""

    def __init__(self) -> None:
        self._packed: dict[str, _Packed] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, model: str) -> Snapshot | None:
        packed = self._packed.get(model)
        if packed is None:
            return None
        content = msgspec.msgpack.decode(zlib.decompress(packed.content), type=_Content)
        return Snapshot(packed.read_at, content.model, content.versions, packed.complete)

    def read_at(self, model: str) -> float | None:
        packed = self._packed.get(model)
        return None if packed is None else packed.read_at

    def put(self, model: str, snapshot: Snapshot, written: bytes | None = None) -> None:
        """`written`: the digest of what the server wrote, if a poll read it."""
        content = msgspec.msgpack.encode(_Content(snapshot.model, snapshot.versions))
        packed = zlib.compress(content, 1)
        self._packed[model] = _Packed(snapshot.read_at, snapshot.complete, written, packed)

    def unchanged(self, model: str, written: bytes | None, read_at: float) -> bool:
        """Whether the server wrote at `read_at` just what it had written when this was kept; then
        this is of that moment."""
        packed = self._packed.get(model)
        if packed is None or written is None or packed.written != written:
            return False
        packed.read_at = max(packed.read_at, read_at)
        return True

    def keep_only(self, models: Collection[str]) -> None:
        for model in self._packed.keys() - models:
            del self._packed[model]
