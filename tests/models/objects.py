"""What becomes of objects when they are created, written or deleted, whoever asks for it.

The half of the model of the API server that knows no HTTP: `kubernetes` turns requests into these
calls, `workloads` makes them as controllers do.
"""

from __future__ import annotations

import copy
import random
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tests.models import fields, ownership, shapes, statuses
from tests.models.fields import Path
from tests.models.kinds import Kind, kind_of, kinds
from tests.models.ownership import APPLY, UPDATE, Manager, Owners
from tests.models.shapes import Json
from tests.models.storage import Storage, Stored, Where

# The rest of metadata is the server's own.
_GIVEN = ("labels", "annotations", "finalizers", "ownerReferences")


def rfc3339(when: datetime) -> str:
    """metav1.Time: whole seconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """The objects of one cluster. `now` is the only clock, `rng` makes uids."""

    def __init__(self, now: Callable[[], datetime], rng: random.Random) -> None:
        self._now = now
        self._rng = rng
        self.storage = Storage()

    def create(
        self, kind: Kind, where: Where, body: Json, manager: str, *, operation: str = UPDATE
    ) -> Stored:
        """A new object, made of `body`. Raises RefusedError."""
        if where[0] and self.storage.find(kind_of("namespaces"), ("", where[0])) is None:
            raise statuses.not_found(kind_of("namespaces"), where[0])
        there = self.storage.find(kind, where)
        if there is not None:
            ending = "deletionTimestamp" in there.metadata
            raise statuses.already_exists(kind, where[1], ending=ending)
        config = {key: value for key, value in body.items() if key != "status"}
        new = self._made(kind, where, config)
        by = Manager(manager, operation, kind.api_version)
        if operation == APPLY:
            owned = fields.owned_by_config(config, kind.shape)
            sets = {by: owned} if owned else {}
        else:
            sets = ownership.updated(dict(kind.empty), new, {}, by, kind.shape, [("status",)])
        stored = self._stored(new, ownership.timed({}, sets, by, rfc3339(self._now())))
        self.storage.put(kind, where, stored)
        return stored

    def _made(self, kind: Kind, where: Where, config: Json) -> Json:
        """A new object with all that the server fills in."""
        new = copy.deepcopy({"apiVersion": kind.api_version, "kind": kind.kind, **config})
        sent = new.get("metadata") or {}
        metadata: Json = {
            **{key: sent[key] for key in (*_GIVEN, "generateName") if sent.get(key)},
            "name": where[1],
            "uid": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            "creationTimestamp": rfc3339(self._now()),
        }
        if kind.has_generation:
            metadata["generation"] = 1
        if where[0]:
            metadata["namespace"] = where[0]
        new = self.completed(kind, {**new, "metadata": metadata})
        if kind.has_status and not kind.custom:
            new["status"] = {"phase": "Pending"} if kind.plural == "pods" else {}
        return new

    def write(
        self, kind: Kind, where: Where, body: Json, manager: str, *, subresource: str = ""
    ) -> Stored:
        """The object with what `body` may change of it, by anything but apply."""
        old = self.storage.find(kind, where)
        assert old is not None, f"{kind.kind} {where} is not there"
        ignored: Sequence[Path] = [("status",)] if kind.has_status else []
        if subresource:
            new = {key: value for key, value in old.content.items() if key != "status"}
            new |= {"status": body["status"]} if "status" in body else {}
            ignored = [("metadata",), ("spec",)]
        else:
            new = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
            if kind.has_status:
                new.pop("status", None)
                new |= {"status": old.content["status"]} if "status" in old.content else {}
        new["metadata"] = next_metadata(old.metadata, new.get("metadata") or {})
        if kind.custom or not subresource:
            new = self.completed(kind, new)
        by = Manager(manager, UPDATE, kind.api_version, subresource)
        sets = ownership.updated(old.content, new, old.owners, by, kind.shape, ignored)
        owners = ownership.timed(old.owners, sets, by, rfc3339(self._now()))
        return self.keep(kind, where, old, new, owners)

    def completed(self, kind: Kind, content: Json) -> Json:
        """With what the server fills in and without what it drops. Raises RefusedError."""
        try:
            if not kind.custom:
                content = fields.without_nulls(content)
            return kind.complete(copy.deepcopy(content))
        except shapes.NullError as error:
            name, words = content["metadata"]["name"], 'Invalid value: "null"'
            raise statuses.invalid(
                kind, name, str(error), words, "FieldValueTypeInvalid"
            ) from error

    def keep(self, kind: Kind, where: Where, old: Stored, new: Json, owners: Owners) -> Stored:
        """Stores `new`, unless nothing but times of managed fields changed."""
        new = {**new, "metadata": next_metadata(old.metadata, new["metadata"])}
        if kind.generation_follows(old.content, new):
            new["metadata"]["generation"] = old.metadata["generation"] + 1
        if _plain(new) == _plain(old.content) and _paths(owners) == _paths(old.owners):
            return old
        waited = new["metadata"].get("deletionTimestamp") and kind.plural != "pods"
        if waited and not new["metadata"].get("finalizers"):
            # The last finalizer goes: the object is deleted instead of written.
            self.storage.delete(kind, where)
            last = self._stored(new, owners)
            last.metadata["resourceVersion"] = str(old.revision)
            return last
        stored = self._stored(new, owners)
        self.storage.put(kind, where, stored)
        return stored

    def delete(self, kind: Kind, where: Where, *, at_once: bool = False) -> Stored | None:
        """None: it is gone. An object: it waits for its finalizers, or for its kubelet."""
        old = self.storage.find(kind, where)
        assert old is not None, f"{kind.kind} {where} is not there"
        graceful = kind.plural == "pods" and old.content["spec"].get("nodeName") and not at_once
        if not graceful and not old.metadata.get("finalizers"):
            if kind.plural == "namespaces":
                self._empty(where[1])
            self.storage.delete(kind, where)
            return None
        if old.metadata.get("deletionTimestamp"):
            return old
        marks: Json = {"deletionTimestamp": rfc3339(self._now()), "deletionGracePeriodSeconds": 0}
        if graceful:
            marks["deletionGracePeriodSeconds"] = 30
        if old.metadata.get("generation"):
            marks["generation"] = old.metadata["generation"] + 1
        new = {**old.content, "metadata": {**old.metadata, **marks}}
        stored = self._stored(new, old.owners)
        self.storage.put(kind, where, stored)
        return stored

    def _empty(self, namespace: str) -> None:
        for kind in kinds().values():
            if kind.namespaced:
                for where, _ in self.storage.all(kind, namespace):
                    self.storage.delete(kind, where)

    def _stored(self, content: Json, owners: Owners) -> Stored:
        revision = self.storage.next_revision
        metadata = {**content["metadata"], "resourceVersion": str(revision)}
        metadata.pop("managedFields", None)
        if owners:
            metadata["managedFields"] = ownership.managed_fields(owners)
        return Stored({**content, "metadata": metadata}, owners, revision)


def next_metadata(old: Json, new: Json) -> Json:
    """What a client may change, and the rest as it was."""
    found = {key: value for key, value in old.items() if key not in (*_GIVEN, "managedFields")}
    return found | {key: new[key] for key in _GIVEN if new.get(key)}


def _plain(content: Json) -> Json:
    """Without what every write changes."""
    without = ("managedFields", "resourceVersion")
    metadata = {k: v for k, v in content["metadata"].items() if k not in without}
    return {**content, "metadata": metadata}


def _paths(owners: Owners) -> dict[Manager, fields.Paths]:
    return {manager: owned.paths for manager, owned in owners.items()}
