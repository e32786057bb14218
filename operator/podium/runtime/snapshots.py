"""What was last read of each model, packed: ten thousand of them, with the tags that the ledger
leaves there, must stay small. Unpacked when a pass asks for one.

Keeps, gives, and says what a write makes of a model; what is news, and what a write makes old, is
decided in `connected`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from podium.registry.model import RegisteredModel, Version
from podium.runtime import packing


@dataclass(frozen=True)
class Snapshot:
    """A model as it was at `read_at` (monotonic); None: it did not exist. All its versions were
    read at `whole_at`, and those that the model shows as the newest at `read_at` (None: the others
    may be missing). What the server acknowledged of our writes until `amended_at` is in it."""

    read_at: float
    model: RegisteredModel | None
    versions: Mapping[str, Version]
    whole_at: float | None
    amended_at: float = 0.0

    @property
    def complete(self) -> bool:
        return self.whole_at is not None

    @property
    def as_of(self) -> float:
        """What was read before then is older than this."""
        return max(self.read_at, self.amended_at)

    def with_model_tag(self, key: str, value: str) -> "Snapshot":
        if self.model is None:
            return self
        tags = {**self.model.tags, key: value}
        return replace(self, model=msgspec.structs.replace(self.model, tags=tags))

    def with_version(self, version: Version) -> "Snapshot":
        """With this in place of the version of the same number, also among the newest of each
        stage, where MLflow shows it as well."""
        versions = {**self.versions, version.version: version}
        if self.model is None:
            return replace(self, versions=versions)
        newest: dict[str, Version] = {}
        for each in sorted(versions.values(), key=lambda v: int(v.version)):
            newest[each.stage] = each
        by_number = tuple(sorted(newest.values(), key=lambda v: int(v.version)))
        model = msgspec.structs.replace(self.model, latest_versions=by_number)
        return replace(self, model=model, versions=versions)

    def with_version_tag(self, version: str, key: str, value: str) -> "Snapshot":
        known = self.versions.get(version)
        if known is None:
            return self
        tagged = msgspec.structs.replace(known, tags={**known.tags, key: value})
        return self.with_version(tagged)

    def with_stage(self, moved: Version) -> "Snapshot":
        """After a transition, as the server answered it."""
        known = self.versions.get(moved.version)
        if known is None:
            return self
        stage, updated = moved.stage, moved.updated_at
        return self.with_version(msgspec.structs.replace(known, stage=stage, updated_at=updated))


def whole(read_at: float, model: RegisteredModel | None, versions: Iterable[Version]) -> Snapshot:
    """With all versions, asked for after the model. One that the model names among its newest and
    they lack is there all the same: their answer was older (a replica of the database)."""
    newest = model.latest_versions if model is not None else ()
    return Snapshot(read_at, model, {v.version: v for v in (*newest, *versions)}, read_at)


class _Content(msgspec.Struct, array_like=True):
    model: RegisteredModel | None
    versions: Mapping[str, Version]


@dataclass(slots=True)
class _Packed:
    read_at: float
    amended_at: float
    whole_at: float | None
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
        content = msgspec.msgpack.decode(packing.unpack(packed.content), type=_Content)
        return Snapshot(
            packed.read_at, content.model, content.versions, packed.whole_at, packed.amended_at
        )

    def as_of(self, model: str) -> float | None:
        packed = self._packed.get(model)
        return None if packed is None else max(packed.read_at, packed.amended_at)

    def put(self, model: str, snapshot: Snapshot, written: bytes | None = None) -> None:
        """`written`: the digest of what the server wrote, if a poll read it."""
        content = msgspec.msgpack.encode(_Content(snapshot.model, snapshot.versions))
        packed = packing.pack(content)
        self._packed[model] = _Packed(
            snapshot.read_at, snapshot.amended_at, snapshot.whole_at, written, packed
        )

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
