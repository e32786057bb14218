"""What the Deployment controller does next, as functions of what there is.

Pure: pkg/controller/deployment (rolling.go, progress.go, sync.go) for RollingUpdate and Recreate.
Not modelled: proportional scaling of several ReplicaSets, quotas, collisions of template hashes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.models.shapes import Json

HASH = "pod-template-hash"


@dataclass(frozen=True)
class Replicas:
    """One ReplicaSet and its pods that count: not ending, not failed."""

    content: Json
    pods: tuple[Json, ...]
    available: int

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    @property
    def wanted(self) -> int:
        return int(self.content["spec"]["replicas"])

    @property
    def ready(self) -> int:
        return sum(is_ready(pod) for pod in self.pods)


@dataclass(frozen=True)
class Seen:
    """A Deployment with its ReplicaSets; `new` is that of the present template."""

    deployment: Json
    new: Replicas | None
    old: tuple[Replicas, ...]

    @property
    def wanted(self) -> int:
        return int(self.deployment["spec"]["replicas"])

    @property
    def every(self) -> tuple[Replicas, ...]:
        return (*((self.new,) if self.new else ()), *self.old)

    @property
    def limits(self) -> tuple[int, int]:
        """maxSurge and maxUnavailable as numbers: one rounded up, the other down."""
        rolling = self.deployment["spec"]["strategy"].get("rollingUpdate") or {}
        surge = _count(rolling.get("maxSurge", 0), self.wanted, up=True)
        unavailable = _count(rolling.get("maxUnavailable", 0), self.wanted, up=False)
        return surge, unavailable if surge or unavailable else 1


def _count(value: object, of: int, *, up: bool) -> int:
    if isinstance(value, str) and value.endswith("%"):
        part = of * int(value[:-1]) / 100
        return math.ceil(part) if up else math.floor(part)
    return int(str(value))


def template_hash(template: Json) -> str:
    """Not Kubernetes' own, but as stable: the same template, the same name."""
    text = json.dumps(template, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def replica_set(seen: Seen, digest: str, revision: int) -> Json:
    """The body of a new ReplicaSet for the present template."""
    deployment = seen.deployment
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = copy.deepcopy(spec["template"])
    template["metadata"].setdefault("labels", {})[HASH] = digest
    selector = copy.deepcopy(spec["selector"])
    selector.setdefault("matchLabels", {})[HASH] = digest
    return {
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "labels": template["metadata"]["labels"],
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": new_replicas(seen, 0),
            "selector": selector,
            "template": template,
        },
    }


def new_replicas(seen: Seen, has: int) -> int:
    """How many the new ReplicaSet may have now (NewRSNewReplicas)."""
    if seen.deployment["spec"]["strategy"]["type"] == "Recreate":
        return has if any(each.pods for each in seen.old) else seen.wanted
    surge, _ = seen.limits
    room = seen.wanted + surge - sum(each.wanted for each in seen.every)
    return min(seen.wanted, has + max(0, room)) if has < seen.wanted else seen.wanted


def scaled(seen: Seen) -> dict[str, int]:
    """The ReplicaSets that change their size now, by name. Up before down, as the controller."""
    new = seen.new
    if new is None:
        return {}
    if seen.deployment["spec"]["strategy"]["type"] == "Recreate":
        down = {each.name: 0 for each in seen.old if each.wanted}
        if down:
            return down
    target = new_replicas(seen, new.wanted)
    if target != new.wanted:
        return {new.name: target}
    return _old_ones_scaled(seen, new)


def _old_ones_scaled(seen: Seen, new: Replicas) -> dict[str, int]:
    _, unavailable = seen.limits
    least = seen.wanted - unavailable
    every = sum(each.wanted for each in seen.every)
    room = every - least - (new.wanted - new.available)
    if room <= 0 or not any(each.wanted for each in seen.old):
        return {}
    sizes = {each.name: each.wanted for each in seen.old}
    for each in seen.old:  # unhealthy ones first: they serve nobody
        gone = min(room, max(0, each.wanted - each.available))
        sizes[each.name] -= gone
        room -= gone
    spare = sum(each.available for each in seen.every) - least
    for each in seen.old:
        gone = min(max(0, spare), sizes[each.name])
        sizes[each.name] -= gone
        spare -= gone
    return {each.name: sizes[each.name] for each in seen.old if sizes[each.name] != each.wanted}


def status(seen: Seen, now: str, *, created: bool = False) -> Json:
    """The Deployment's status as the controller writes it."""
    deployment, new = seen.deployment, seen.new
    old = deployment.get("status") or {}
    counts = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": sum(len(each.pods) for each in seen.every),
        "updatedReplicas": len(new.pods) if new else 0,
        "readyReplicas": sum(each.ready for each in seen.every),
        "availableReplicas": sum(each.available for each in seen.every),
    }
    counts["unavailableReplicas"] = max(
        0, sum(each.wanted for each in seen.every) - counts["availableReplicas"]
    )
    conditions = {each["type"]: each for each in old.get("conditions") or []}
    _, unavailable = seen.limits
    enough = counts["availableReplicas"] >= seen.wanted - unavailable
    words = f"Deployment {'has' if enough else 'does not have'} minimum availability."
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    _set(conditions, "Available", enough, reason, words, now)
    _pause(conditions, deployment, now)
    if new is not None and not deployment["spec"].get("paused"):
        _progress(conditions, seen, new, old, counts, now, created=created)
    found: Json = {key: value for key, value in counts.items() if value}
    return found | {"conditions": list(conditions.values())}


def _pause(conditions: dict[str, Json], deployment: Json, now: str) -> None:
    """checkPausedConditions"""
    was = conditions.get("Progressing")
    reason = was["reason"] if was else ""
    if reason == "ProgressDeadlineExceeded":
        return
    if deployment["spec"].get("paused"):
        _set(conditions, "Progressing", None, "DeploymentPaused", "Deployment is paused", now)
    elif reason == "DeploymentPaused":
        _set(conditions, "Progressing", None, "DeploymentResumed", "Deployment is resumed", now)


def _progress(
    conditions: dict[str, Json],
    seen: Seen,
    new: Replicas,
    old: Json,
    counts: dict[str, int],
    now: str,
    *,
    created: bool,
) -> None:
    """syncRolloutStatus: complete, progressing, or out of time."""
    name = f'ReplicaSet "{new.name}"'
    if created:
        words = f'Created new replica set "{new.name}"'
        _set(conditions, "Progressing", True, "NewReplicaSetCreated", words, now, anew=True)
    was = conditions.get("Progressing")
    rolled_out = old.get("replicas", 0) == old.get("updatedReplicas", 0)
    still = counts["replicas"] == counts["updatedReplicas"]
    if was and was["reason"] == "NewReplicaSetAvailable" and rolled_out and still:
        return
    if all(
        counts[key] == seen.wanted for key in ("updatedReplicas", "replicas", "availableReplicas")
    ):
        words = f"{name} has successfully progressed."
        _set(conditions, "Progressing", True, "NewReplicaSetAvailable", words, now)
    elif _has_progressed(old, counts):
        words = f"{name} is progressing."
        _set(conditions, "Progressing", True, "ReplicaSetUpdated", words, now, anew=True)
    elif was and times_out_at(seen.deployment, was) <= datetime.fromisoformat(now):
        words = f"{name} has timed out progressing."
        _set(conditions, "Progressing", False, "ProgressDeadlineExceeded", words, now)


def _has_progressed(old: Json, counts: dict[str, int]) -> bool:
    outdated = counts["replicas"] - counts["updatedReplicas"]
    was_outdated = old.get("replicas", 0) - old.get("updatedReplicas", 0)
    more = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return outdated < was_outdated or any(counts[key] > old.get(key, 0) for key in more)


def times_out_at(deployment: Json, progressing: Json) -> datetime:
    """When progress is no longer waited for; the end of time once it was complete."""
    if progressing["reason"] in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return datetime.max.replace(tzinfo=datetime.fromisoformat("2000-01-01T00:00:00Z").tzinfo)
    since = datetime.fromisoformat(progressing["lastUpdateTime"])
    # The controller looks again one second after, and whole seconds are all that is kept.
    return since + timedelta(seconds=deployment["spec"]["progressDeadlineSeconds"] + 1)


def _set(
    conditions: dict[str, Json],
    kind: str,
    true: bool | None,
    reason: str,
    message: str,
    now: str,
    *,
    anew: bool = False,
) -> None:
    """`anew`: the time of the update moves although status and reason are the same."""
    was = conditions.get(kind)
    word = {True: "True", False: "False", None: "Unknown"}[true]
    if was and was["status"] == word and was["reason"] == reason and not anew:
        return
    since = was["lastTransitionTime"] if was and was["status"] == word else now
    conditions[kind] = {
        "type": kind,
        "status": word,
        "lastUpdateTime": now,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }


def first_to_go(pods: Sequence[Json]) -> list[Json]:
    """In the order in which a ReplicaSet gives them up: the unready first, then the young."""
    by_age = sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    return sorted(by_age, key=is_ready)


def is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def ready_since(pod: Json) -> datetime | None:
    for each in (pod.get("status") or {}).get("conditions") or []:
        if each["type"] == "Ready" and each["status"] == "True":
            return datetime.fromisoformat(each["lastTransitionTime"])
    return None


def counts(pod: Json) -> bool:
    """Whether a ReplicaSet counts the pod as one of its replicas."""
    ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    return not ended and not pod["metadata"].get("deletionTimestamp")
