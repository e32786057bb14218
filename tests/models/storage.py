"""What etcd is to the API server: objects by revision, their history, compaction, a backup.

Knows nothing of kinds but where their objects are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.models.kinds import Kind
from tests.models.ownership import Owners
from tests.models.shapes import Json

FIRST_REVISION = 1000
Where = tuple[str, str]  # namespace ("" for none) and name


@dataclass(frozen=True)
class Stored:
    """An object as it was written at one revision. Nobody changes it."""

    content: Json
    owners: Owners
    revision: int

    @property
    def metadata(self) -> Json:
        found: Json = self.content["metadata"]
        return found

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])


@dataclass(frozen=True)
class Change:
    """`type` is as watches say it: ADDED, MODIFIED or DELETED (then `after` is what it was)."""

    type: str
    kind: Kind
    where: Where
    before: Stored | None
    after: Stored


@dataclass(frozen=True)
class Snapshot:
    """A backup of everything at one revision."""

    revision: int
    objects: Mapping[Kind, Mapping[Where, Stored]]


class GoneError(Exception):
    """The history that is asked for was compacted (410)."""


@dataclass
class Storage:
    revision: int = FIRST_REVISION
    compacted: int = 0
    writes: int = 0  # never counted back, not even by a restore
    _objects: dict[Kind, dict[Where, Stored]] = field(default_factory=dict)
    _history: list[Change] = field(default_factory=list)

    def find(self, kind: Kind, where: Where) -> Stored | None:
        return self._objects.get(kind, {}).get(where)

    def all(self, kind: Kind, namespace: str = "") -> list[tuple[Where, Stored]]:
        """In the order of etcd's keys; of all namespaces for ""."""
        found = self._objects.get(kind, {})
        return sorted(
            ((where, stored) for where, stored in found.items() if namespace in ("", where[0])),
            key=lambda each: each[0],
        )

    def put(self, kind: Kind, where: Where, stored: Stored) -> None:
        """Keeps an object that was made for the `next_revision`."""
        before = self.find(kind, where)
        self.writes += 1
        self.revision = stored.revision
        self._objects.setdefault(kind, {})[where] = stored
        type_ = "MODIFIED" if before else "ADDED"
        self._history.append(Change(type_, kind, where, before, stored))

    def delete(self, kind: Kind, where: Where) -> Stored:
        """The object as watches tell of its end: with the revision of that."""
        before = self._objects[kind].pop(where)
        self.writes += 1
        self.revision += 1
        metadata = {**before.metadata, "resourceVersion": str(self.revision)}
        last = Stored({**before.content, "metadata": metadata}, before.owners, self.revision)
        self._history.append(Change("DELETED", kind, where, before, last))
        return last

    @property
    def next_revision(self) -> int:
        return self.revision + 1

    def since(self, revision: int) -> list[Change]:
        """Every change after that revision, in order. Raises GoneError."""
        if revision < self.compacted:
            raise GoneError(f"too old resource version: {revision} ({self.compacted})")
        low, high = 0, len(self._history)
        while low < high:
            middle = (low + high) // 2
            if self._history[middle].after.revision > revision:
                high = middle
            else:
                low = middle + 1
        return self._history[low:]

    def at(self, kind: Kind, revision: int, namespace: str) -> list[tuple[Where, Stored]]:
        """As `all` was at that revision. Raises GoneError."""
        found = dict(self._objects.get(kind, {}))
        for change in reversed(self.since(revision)):
            if change.kind is kind:
                if change.before is None:
                    found.pop(change.where, None)
                else:
                    found[change.where] = change.before
        return sorted(
            ((where, stored) for where, stored in found.items() if namespace in ("", where[0])),
            key=lambda each: each[0],
        )

    def compact(self, revision: int) -> None:
        """Forget the history up to and with that revision."""
        self.compacted = max(self.compacted, revision)
        self._history = [each for each in self._history if each.after.revision > revision]

    def snapshot(self) -> Snapshot:
        return Snapshot(self.revision, {kind: dict(each) for kind, each in self._objects.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Back to the backup, revisions too: what comes now has numbers that were used before.

        No history: an API server that starts on it answers 410 to watches from before.
        """
        self.writes += 1
        self.revision = self.compacted = snapshot.revision
        self._objects = {kind: dict(each) for kind, each in snapshot.objects.items()}
        self._history = []
