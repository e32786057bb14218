"""A model of the Kubernetes API server: objects over HTTP, and the history that watches show.

Every request is answered at once and alone, as etcd's transactions are. What it does as the real
one: resourceVersion and uid preconditions, the status subresource, generation, defaults,
server-side apply with conflicts, merge, strategic and JSON patches, paging at one revision, label
selectors, watch order, compaction, a restored backup.

What it knowingly does not: authentication, authorization, admission, validation (only valid
objects are sent), discovery, tables, watches as a stream, `managedFields` in a request, deletion
of collections, conversion (events are served as events.k8s.io/v1 alone). A deleted namespace and
all that is in it are gone at once. Controllers are in `workloads`. One difference is known and
left: after an apply that emptied a map, the real one may count a later write of the same as a
change.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

import msgspec

from tests.models import listing, ownership, patches, statuses
from tests.models.http import Answered, Asked
from tests.models.kinds import Kind, kind_of
from tests.models.objects import Objects, rfc3339
from tests.models.ownership import APPLY, Manager
from tests.models.requests import Target, target_of
from tests.models.shapes import Json
from tests.models.storage import GoneError, Snapshot, Stored, Where

__all__ = ["ApiServer", "Gone", "rfc3339"]

Gone = GoneError
APPLY_PATCH = "application/apply-patch+yaml"


class ApiServer(Objects):
    """One API server with its etcd. `now` is the only clock, `rng` makes uids."""

    def __init__(self, now: Callable[[], datetime], rng: random.Random) -> None:
        super().__init__(now, rng)
        for name in ("default", "kube-system"):
            self.create(kind_of("namespaces"), ("", name), {"metadata": {"name": name}}, "model")

    def answer(self, asked: Asked) -> Answered:
        """Everything but watches."""
        if asked.path in ("/healthz", "/livez", "/readyz"):
            return Answered(200, b"ok", "text/plain; charset=utf-8")
        if asked.path == "/version":
            return statuses.answered({"major": "1", "minor": "36", "gitVersion": "v1.36.3"})
        try:
            target = target_of(asked.path)
            if target is None:
                raise statuses.no_such_path()
            return self._answer(asked, target)
        except statuses.RefusedError as refused:
            return refused.answer

    def events_since(self, plural_path: str, resource_version: int) -> list[tuple[int, str, Json]]:
        """What a watch of that list (`/apis/apps/v1/namespaces/x/deployments`) shows from there:
        resourceVersion, ADDED, MODIFIED or DELETED, and the object. Raises Gone."""
        target = target_of(plural_path)
        if target is None or target.name:
            raise ValueError(f"{plural_path} is no list")
        return [
            (change.after.revision, change.type, change.after.content)
            for change in self.storage.since(resource_version)
            if change.kind is target.kind and target.namespace in ("", change.where[0])
        ]

    def compact(self, resource_version: int) -> None:
        """Forget the history up to there, as etcd does every five minutes."""
        self.storage.compact(resource_version)

    def snapshot(self) -> Snapshot:
        """A backup of etcd."""
        return self.storage.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """etcd restored from the backup, and the API server started anew on it."""
        self.storage.restore(snapshot)

    # Requests

    def _answer(self, asked: Asked, target: Target) -> Answered:
        if target.name == "":
            return self._answer_collection(asked, target)
        if target.subresource not in ("", "status"):
            raise statuses.no_such_path()
        if target.subresource and not target.kind.has_status:
            raise statuses.no_such_path()
        match asked.method:
            case "GET":
                return statuses.answered(self._existing(target).content)
            case "PUT":
                return self._put(asked, target)
            case "PATCH":
                return self._patch(asked, target)
            case "DELETE" if not target.subresource:
                return self._delete(asked, target)
        raise statuses.not_allowed(asked.method)

    def _answer_collection(self, asked: Asked, target: Target) -> Answered:
        if asked.method == "GET":
            return listing.listed(self.storage, target.kind, target.namespace, asked.query)
        if asked.method != "POST" or (target.kind.namespaced and not target.namespace):
            raise statuses.not_allowed(asked.method)
        body = _body(asked)
        metadata = body.setdefault("metadata", {})
        if metadata.get("generateName") and not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + f"{self._rng.getrandbits(20):05x}"
        if metadata.get("resourceVersion"):
            raise statuses.bad_request("resourceVersion should not be set on objects to be created")
        where = (target.namespace, str(metadata.get("name") or ""))
        made = self.create(target.kind, where, body, _manager_name(asked))
        return statuses.answered(made.content, 201)

    def _existing(self, target: Target) -> Stored:
        found = self.storage.find(target.kind, target.where)
        if found is None:
            raise statuses.not_found(target.kind, target.where[1])
        return found

    def _put(self, asked: Asked, target: Target) -> Answered:
        kind, body = target.kind, _body(asked)
        old = self.storage.find(kind, target.where)
        manager = _manager_name(asked)
        if old is None and kind.created_by_put and not target.subresource:
            uid = body.get("metadata", {}).get("uid")
            if uid:
                raise statuses.other_uid(kind, target.where, uid, "")
            made = self.create(kind, target.where, body, manager)
            return statuses.answered(made.content, 201)
        if old is None:
            raise statuses.not_found(kind, target.where[1])
        metadata = body.setdefault("metadata", {})
        if metadata.get("name") != target.where[1]:
            raise statuses.bad_request(
                f"the name of the object ({metadata.get('name') or ''}) does not match the name on "
                f"the URL ({target.where[1]})"
            )
        uid = metadata.get("uid")
        if uid and uid != old.uid:
            raise statuses.other_uid(kind, target.where, uid, old.uid)
        self._check_version(kind, target.where, metadata.get("resourceVersion"), old, put=True)
        new = self.write(kind, target.where, body, manager, subresource=target.subresource)
        return statuses.answered(new.content)

    def _check_version(
        self, kind: Kind, where: Where, asked: object, old: Stored, *, put: bool = False
    ) -> None:
        if not asked:
            if put and kind.custom:
                words = "Invalid value: 0: must be specified for an update"
                raise statuses.invalid(
                    kind,
                    where[1],
                    "metadata.resourceVersion",
                    words,
                    "FieldValueInvalid",
                    by_plural=True,
                )
            return
        if str(asked) != str(old.revision):
            raise statuses.conflict(kind, where[1], statuses.MODIFIED)

    def _patch(self, asked: Asked, target: Target) -> Answered:
        content_type = asked.header("content-type").partition(";")[0].strip()
        if content_type == APPLY_PATCH:
            return self._apply(asked, target)
        kind, old = target.kind, self._existing(target)
        patch = msgspec.json.decode(asked.body)
        try:
            match content_type:
                case "application/merge-patch+json":
                    new = patches.merge_patch(old.content, patch)
                case "application/strategic-merge-patch+json" if not kind.custom:
                    new = patches.strategic_merge_patch(old.content, patch, (), kind.shape)
                case "application/json-patch+json":
                    new = patches.json_patch(old.content, patch)
                case other:
                    raise statuses.unsupported(other)
        except patches.PatchError as error:
            raise statuses.patch_does_not_fit() from error
        self._check_patched(target, new["metadata"], old)
        manager = _manager_name(asked)
        written = self.write(kind, target.where, new, manager, subresource=target.subresource)
        return statuses.answered(written.content)

    def _check_patched(self, target: Target, metadata: Json, old: Stored) -> None:
        kind = target.kind
        self._check_version(kind, target.where, metadata.get("resourceVersion"), old)
        if target.subresource:
            return  # of which nothing but status is looked at
        if metadata.get("uid") not in (None, "", old.uid):
            words = f'Invalid value: "{metadata["uid"]}": field is immutable'
            name = target.where[1]
            # The generic checks and those of the kind both say so.
            raise statuses.invalid(kind, name, "metadata.uid", words, "FieldValueInvalid", times=2)

    def _apply(self, asked: Asked, target: Target) -> Answered:
        kind, where = target.kind, target.where
        config, name = _body(asked), asked.query.get("fieldManager", "")
        if not name:
            raise statuses.bad_request(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required"
            )
        metadata = config.setdefault("metadata", {})
        old = self.storage.find(kind, where)
        if old is None:
            if metadata.get("uid"):
                raise statuses.conflict(
                    kind,
                    where[1],
                    f"uid mismatch: the provided object specified uid {metadata['uid']}, and no "
                    "existing object was found",
                )
            if target.subresource:
                raise statuses.not_found(kind, where[1])
            if kind.plural == "deployments" and "selector" not in (config.get("spec") or {}):
                words = "Required value"
                raise statuses.invalid(kind, where[1], "spec.selector", words, "FieldValueRequired")
            made = self.create(kind, where, config, name, operation=APPLY)
            return statuses.answered(made.content, 201)
        manager = Manager(name, APPLY, kind.api_version, target.subresource)
        live = {key: value for key, value in old.content.items() if key != "metadata"}
        live["metadata"] = {k: v for k, v in old.metadata.items() if k != "managedFields"}
        try:
            new, sets = ownership.applied(
                live,
                _without_others_part(config, target.subresource, kind),
                old.owners,
                manager,
                kind.shape,
                force=asked.query.get("force") == "true",
            )
        except ownership.FieldConflictError as error:
            raise statuses.owned_by_others(error) from error
        self._check_patched(target, metadata, old)
        moment = "" if new == live else rfc3339(self._now())
        owners = ownership.timed(old.owners, sets, manager, moment)
        completed = self.completed(kind, new)
        return statuses.answered(self.keep(kind, where, old, completed, owners).content)

    def _delete(self, asked: Asked, target: Target) -> Answered:
        kind, old = target.kind, self._existing(target)
        options = msgspec.json.decode(asked.body) if asked.body else {}
        for name, words, found in (
            ("uid", "UID", old.uid),
            ("resourceVersion", "ResourceVersion", str(old.revision)),
        ):
            wanted = (options.get("preconditions") or {}).get(name)
            if wanted is not None and wanted != found:
                then = "deleted and then recreated" if name == "uid" else "modified"
                raise statuses.precondition_failed(
                    kind,
                    target.where[1],
                    f"the {words} in the precondition ({wanted}) does not match the {words} in "
                    f"record ({found}). The object might have been {then}",
                )
        grace = options.get("gracePeriodSeconds", asked.query.get("gracePeriodSeconds"))
        kept = self.delete(kind, target.where, at_once=str(grace) == "0")
        if kept is not None:
            return statuses.answered(kept.content)
        return statuses.deleted(kind, target.where[1], old.uid)


def _without_others_part(config: Json, subresource: str, kind: Kind) -> Json:
    """What an apply may name: not the status, or (of the status subresource) only that."""
    if subresource:
        return {k: v for k, v in config.items() if k in ("apiVersion", "kind", "status")}
    if kind.has_status:
        return {k: v for k, v in config.items() if k != "status"}
    return config


def _body(asked: Asked) -> Json:
    try:
        found = msgspec.json.decode(asked.body)
    except msgspec.DecodeError as error:
        raise statuses.bad_request(f"the body is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise statuses.bad_request("the body is no object")
    return found


def _manager_name(asked: Asked) -> str:
    """Without fieldManager, the program that asks: what stands before the / of its User-Agent."""
    return (
        asked.query.get("fieldManager") or asked.header("user-agent").partition("/")[0] or "model"
    )
