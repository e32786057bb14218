"""Deployments that roll out and pods that run, in the model of the API server.

Stands in for the Deployment and ReplicaSet controllers, the garbage collector, the scheduler and
the simulated nodes: what they do is in `rollout` and `kubelet`, this says when. It keeps no state
that is not in the API server but when each thing is due, so a restored backup needs no word to it.

What it knowingly does not: status of ReplicaSets, Jobs, autoscalers, quotas, node failures. Each
thing takes a random short time; the order among things that are due at once is that of their names.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.models import kubelet, rollout
from tests.models.kinds import kind_of
from tests.models.kubernetes import ApiServer, rfc3339
from tests.models.rollout import Replicas, Seen
from tests.models.shapes import Json
from tests.models.storage import Stored

CONTROLLERS = "kube-controller-manager"
REACTION_SECONDS = (0.01, 0.2)
POD_SECONDS = (0.05, 1.0)
MAX_ROUNDS = 1000  # a step that does more is a bug in here: nothing would ever come to rest

Key = tuple[str, str]


@dataclass(frozen=True)
class _Due:
    """Something that will be done: `key` says to what and what, so that it keeps its time."""

    key: Key
    at: datetime
    do: Callable[[datetime], None]


class Workloads:
    def __init__(self, server: ApiServer, rng: random.Random) -> None:
        self._server = server
        self._rng = rng
        self._times: dict[Key, datetime] = {}
        self._known: tuple[int, list[_Due]] | None = None
        self._owned: dict[str, list[Stored]] = {}

    def step(self, now: datetime) -> None:
        """Does all that is due."""
        for _ in range(MAX_ROUNDS):
            due = sorted(
                (each for each in self._pending(now) if each.at <= now),
                key=lambda each: (each.at, each.key),
            )
            if not due:
                return
            # One at a time: what is done may undo what else was due.
            self._times.pop(due[0].key, None)
            self._known = None
            due[0].do(now)
        raise AssertionError("the workloads do not come to rest")

    def next_at(self, now: datetime) -> datetime | None:
        """When there is something to do next; None: nothing until an object changes."""
        times = [each.at for each in self._pending(now)]
        return max(now, min(times)) if times else None

    def _pending(self, now: datetime) -> list[_Due]:
        """The same until an object changes: when time alone changes something, that is in it."""
        writes = self._server.storage.writes
        if self._known is None or self._known[0] != writes:
            self._index_pods()
            self._known = writes, self._found(now)
        return self._known[1]

    def _index_pods(self) -> None:
        self._owned = {}
        for _, stored in self._server.storage.all(kind_of("pods")):
            self._owned.setdefault(_owner(stored) or "", []).append(stored)

    def _found(self, now: datetime) -> list[_Due]:
        found = [*self._of_deployments(now), *self._of_replica_sets(now), *self._of_pods(now)]
        keys = {each.key for each in found}
        self._times = {key: at for key, at in self._times.items() if key in keys}
        return found

    def _due(
        self,
        key: Key,
        now: datetime,
        do: Callable[[datetime], None],
        within: tuple[float, float],
        after: float = 0.0,
    ) -> _Due:
        if key not in self._times:
            wait = after + self._rng.uniform(*within)
            self._times[key] = now + timedelta(seconds=wait)
        return _Due(key, self._times[key], do)

    # Deployments

    def _of_deployments(self, now: datetime) -> Iterator[_Due]:
        for where, stored in self._server.storage.all(kind_of("deployments")):
            content = stored.content
            if content["metadata"].get("deletionTimestamp"):
                continue
            seen = self._seen(where[0], content, now)
            if self._out_of_step(seen, now):
                yield self._due(
                    (stored.uid, "sync"),
                    now,
                    lambda at, where=where: self._sync(where, at),  # type: ignore[misc]
                    REACTION_SECONDS,
                )
                continue
            for at in self._moments(seen):
                if at > now:
                    yield _Due((stored.uid, "look"), at, lambda _: None)

    def _out_of_step(self, seen: Seen, now: datetime) -> bool:
        if seen.new is None and not seen.deployment["spec"].get("paused"):
            return True
        if not seen.deployment["spec"].get("paused") and rollout.scaled(seen):
            return True
        return rollout.status(seen, rfc3339(now)) != seen.deployment.get("status")

    def _moments(self, seen: Seen) -> Iterator[datetime]:
        """When time alone will change what the controller does."""
        conditions = (seen.deployment.get("status") or {}).get("conditions") or []
        for each in conditions:
            if each["type"] == "Progressing":
                at = rollout.times_out_at(seen.deployment, each)
                if at.year < 9999:
                    yield at
        wait = seen.deployment["spec"].get("minReadySeconds", 0)
        if wait:
            for replicas in seen.every:
                for pod in replicas.pods:
                    since = rollout.ready_since(pod)
                    if since is not None:
                        yield since + timedelta(seconds=wait)

    def _seen(self, namespace: str, deployment: Json, now: datetime) -> Seen:
        metadata, spec = deployment["metadata"], deployment["spec"]
        digest = rollout.template_hash(spec["template"])
        wait = timedelta(seconds=spec.get("minReadySeconds", 0))
        new, old = None, []
        for _, stored in self._server.storage.all(kind_of("replicasets"), namespace):
            if _owner(stored) != metadata["uid"]:
                continue
            pods = tuple(each.content for each in self._owned.get(stored.uid, ()))
            counting = tuple(pod for pod in pods if rollout.counts(pod))
            since = [rollout.ready_since(pod) for pod in counting]
            available = sum(at is not None and at + wait <= now for at in since)
            replicas = Replicas(stored.content, counting, available)
            if replicas.name == f"{metadata['name']}-{digest}":
                new = replicas
            else:
                old.append(replicas)
        by_age = sorted(old, key=lambda each: int(each.content["metadata"]["resourceVersion"]))
        return Seen(deployment, new, tuple(by_age))

    def _sync(self, where: tuple[str, str], now: datetime) -> None:
        deployments = kind_of("deployments")
        found = self._server.storage.find(deployments, where)
        if found is None or found.metadata.get("deletionTimestamp"):
            return
        seen = self._seen(where[0], found.content, now)
        created = False
        if not found.content["spec"].get("paused"):
            if seen.new is None:
                self._create_replica_set(where, seen)
                created = True
            else:
                self._scale(where[0], seen)
                self._forget_old(where[0], seen)
            seen = self._seen(where[0], found.content, now)
        status = rollout.status(seen, rfc3339(now), created=created)
        if status != found.content.get("status"):
            self._server.write(
                deployments, where, {"status": status}, CONTROLLERS, subresource="status"
            )

    def _create_replica_set(self, where: tuple[str, str], seen: Seen) -> None:
        digest = rollout.template_hash(seen.deployment["spec"]["template"])
        body = rollout.replica_set(seen, digest, len(seen.old) + 1)
        kind, name = kind_of("replicasets"), body["metadata"]["name"]
        if self._server.storage.find(kind, (where[0], name)) is None:
            self._server.create(kind, (where[0], name), body, CONTROLLERS)

    def _scale(self, namespace: str, seen: Seen) -> None:
        for name, size in rollout.scaled(seen).items():
            self._resize(namespace, name, size)

    def _resize(self, namespace: str, name: str, size: int) -> None:
        kind = kind_of("replicasets")
        found = self._server.storage.find(kind, (namespace, name))
        assert found is not None
        body = {**found.content, "spec": {**found.content["spec"], "replicas": size}}
        self._server.write(kind, (namespace, name), body, CONTROLLERS)

    def _forget_old(self, namespace: str, seen: Seen) -> None:
        """revisionHistoryLimit"""
        empty = [each for each in seen.old if not each.wanted and not each.pods]
        excess = len(empty) - seen.deployment["spec"]["revisionHistoryLimit"]
        for each in empty[: max(0, excess)]:
            self._server.delete(kind_of("replicasets"), (namespace, each.name))

    # ReplicaSets and what they own

    def _of_replica_sets(self, now: datetime) -> Iterator[_Due]:
        deployments = {each.uid for _, each in self._server.storage.all(kind_of("deployments"))}
        for where, stored in self._server.storage.all(kind_of("replicasets")):
            if _owner(stored) not in deployments:
                yield self._due(
                    (stored.uid, "collect"),
                    now,
                    lambda _, where=where: self._collect("replicasets", where),  # type: ignore[misc]
                    REACTION_SECONDS,
                )
                continue
            pods = [each.content for each in self._owned.get(stored.uid, ())]
            if sum(map(rollout.counts, pods)) != stored.content["spec"]["replicas"]:
                yield self._due(
                    (stored.uid, "replicas"),
                    now,
                    lambda _, where=where: self._fill(where),  # type: ignore[misc]
                    REACTION_SECONDS,
                )

    def _collect(self, plural: str, where: tuple[str, str]) -> None:
        if self._server.storage.find(kind_of(plural), where) is not None:
            self._server.delete(kind_of(plural), where)

    def _fill(self, where: tuple[str, str]) -> None:
        found = self._server.storage.find(kind_of("replicasets"), where)
        if found is None:
            return
        pods = [each.content for each in self._owned.get(found.uid, ())]
        counting = [pod for pod in pods if rollout.counts(pod)]
        excess = len(counting) - found.content["spec"]["replicas"]
        for pod in rollout.first_to_go(counting)[: max(0, excess)]:
            self._server.delete(kind_of("pods"), (where[0], pod["metadata"]["name"]))
        for _ in range(-excess):
            self._create_pod(where[0], found)

    def _create_pod(self, namespace: str, owner: Stored) -> None:
        template = owner.content["spec"]["template"]
        name = f"{owner.metadata['name']}-{self._rng.getrandbits(20):05x}"
        body: Json = {
            "metadata": {
                **{k: dict(template["metadata"].get(k) or {}) for k in ("labels", "annotations")},
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": owner.metadata["name"],
                        "uid": owner.uid,
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": dict(template["spec"]),
        }
        self._server.create(kind_of("pods"), (namespace, name), body, CONTROLLERS)

    # Pods

    def _of_pods(self, now: datetime) -> Iterator[_Due]:
        owners = {each.uid for _, each in self._server.storage.all(kind_of("replicasets"))}
        for where, stored in self._server.storage.all(kind_of("pods")):
            content = stored.content
            if content["metadata"].get("deletionTimestamp"):
                yield self._due(
                    (stored.uid, "end"),
                    now,
                    lambda _, where=where: self._end(where),  # type: ignore[misc]
                    REACTION_SECONDS,
                )
            elif _owner(stored) not in (None, *owners):
                yield self._due(
                    (stored.uid, "collect"),
                    now,
                    lambda _, where=where: self._collect("pods", where),  # type: ignore[misc]
                    REACTION_SECONDS,
                )
            elif not content["spec"].get("nodeName"):
                if not (content.get("status") or {}).get("conditions"):
                    yield self._due(
                        (stored.uid, "schedule"),
                        now,
                        lambda at, where=where: self._schedule(where, at),  # type: ignore[misc]
                        REACTION_SECONDS,
                    )
            else:
                yield from self._of_running(where, stored, now)

    def _of_running(self, where: tuple[str, str], stored: Stored, now: datetime) -> Iterator[_Due]:
        stage = kubelet.next_stage(stored.content, rfc3339(now))
        if stage is None:
            return
        # A crash follows its delay exactly; what starts a container takes as long as it takes.
        within = (0.0, 0.1) if stage.seconds or stage.not_before else POD_SECONDS
        key = (stored.uid, f"{stage.name} of {stored.revision}")
        due = self._due(
            key, now, lambda at: self._reach(where, stored.uid, at), within, stage.seconds
        )
        at = max(due.at, stage.not_before) if stage.not_before else due.at
        yield _Due(key, at, due.do)

    def _reach(self, where: tuple[str, str], uid: str, now: datetime) -> None:
        pods = kind_of("pods")
        found = self._server.storage.find(pods, where)
        stage = kubelet.next_stage(found.content, rfc3339(now)) if found else None
        if found is not None and found.uid == uid and stage is not None:
            self._server.write(pods, where, {"status": stage.status}, "kwok", subresource="status")

    def _schedule(self, where: tuple[str, str], now: datetime) -> None:
        pods = kind_of("pods")
        found = self._server.storage.find(pods, where)
        if found is None:
            return
        node, status = kubelet.scheduled(found.content, rfc3339(now))
        if node:
            spec = {**found.content["spec"], "nodeName": node}
            self._server.write(pods, where, {**found.content, "spec": spec}, "kube-scheduler")
        self._server.write(pods, where, {"status": status}, "kube-scheduler", subresource="status")

    def _end(self, where: tuple[str, str]) -> None:
        if self._server.storage.find(kind_of("pods"), where) is not None:
            self._server.delete(kind_of("pods"), where, at_once=True)


def _owner(stored: Stored) -> str | None:
    """The uid of the controller that owns the object."""
    for each in stored.metadata.get("ownerReferences") or []:
        if each.get("controller"):
            return str(each["uid"])
    return None
