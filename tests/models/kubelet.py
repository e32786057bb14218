"""What a simulated node makes of a pod next: the Stages of testbed/simulated.py as functions.

Pure. The faults are those of `podium.dev/kwok-fault` (see there), `FAULT@7` for version 7 only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from testbed.simulated import FAULT_ANNOTATION, VERSION_ANNOTATION
from tests.models.shapes import Json

# What the labels of the test bed's simulated nodes are; a nodeSelector that asks for more waits.
NODE_LABELS = {
    "kubernetes.io/os": "linux",
    "kubernetes.io/arch": "amd64",
    "type": "kwok",
    "kubernetes.io/hostname": "simulated-1",
}


@dataclass(frozen=True)
class Stage:
    """What comes next: `status` in `seconds`, or at `not_before` if that is later."""

    name: str
    seconds: float
    status: Json
    not_before: datetime | None = None


def next_stage(pod: Json, now: str) -> Stage | None:
    """None: the pod stays as it is. `now` (RFC 3339) is when the stage is reached."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") not in (
        "Pending",
        "Running",
    ):
        return None
    if not pod["spec"].get("nodeName"):
        return None
    fault, is_now = fault_of(pod), _now_of(status)
    kind, _, rest = fault.partition("-")
    if fault == "" or kind == "restart":
        if is_now != "running/true":
            return Stage("ready", 0, _status(pod, now, ready=True))
        if kind == "restart" and _restarts(status) < int(rest):
            return Stage("restart", 0, _failed(pod, now, again=True))
        return None
    if fault == "not-ready":
        started = is_now == "running/false"
        return None if started else Stage("unready", 0, _status(pod, now, ready=False))
    if kind == "slow":
        if is_now == "":
            return Stage("start", 0, _status(pod, now, ready=False))
        if is_now == "running/true":
            return None
        made = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        later = made + timedelta(seconds=float(rest.rstrip("s")))
        return Stage("late", 0, _status(pod, now, ready=True), not_before=later)
    if fault == "crash":
        return _crashing(pod, now, is_now)
    if fault == "image-pull" and is_now == "":
        return Stage("image-pull", 0, _no_image(pod, now))
    if fault == "evicted":
        gone = {**status, "phase": "Failed", "reason": "Evicted", "message": "evicted by the test"}
        return Stage("evict", 0, gone)
    return None


def fault_of(pod: Json) -> str:
    """The fault that is meant for this pod, "" for none."""
    annotations = pod["metadata"].get("annotations") or {}
    fault, _, version = annotations.get(FAULT_ANNOTATION, "").partition("@")
    meant = version in ("", annotations.get(VERSION_ANNOTATION, ""))
    return fault if meant else ""


def scheduled(pod: Json, now: str) -> tuple[str, Json]:
    """The node that the scheduler chooses ("" for none), and the status that says so."""
    selector = pod["spec"].get("nodeSelector") or {}
    fits = selector.items() <= NODE_LABELS.items()
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now}
    if not fits:
        condition |= {
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 node(s) didn't match Pod's node selector.",
        }
    return ("simulated-1" if fits else ""), {"phase": "Pending", "conditions": [condition]}


def _crashing(pod: Json, now: str, is_now: str) -> Stage | None:
    if is_now == "":
        return Stage("start", 0, _status(pod, now, ready=False))
    if is_now.startswith("running/"):
        return Stage("crash", 1, _failed(pod, now, again=False))
    return Stage("again", 2, _status(pod, now, ready=False, restarted=True))


def _now_of(status: Json) -> str:
    found = {
        f"{next(iter(each['state']))}/{str(each['ready']).lower()}"
        for each in status.get("containerStatuses") or []
    }
    return ",".join(sorted(found))


def _restarts(status: Json) -> int:
    return max((each["restartCount"] for each in status.get("containerStatuses") or []), default=0)


def _status(pod: Json, now: str, *, ready: bool, restarted: bool = False) -> Json:
    """Containers that run."""
    containers = []
    for container, old in _containers(pod):
        since = (old.get("state") or {}).get("running", {}).get("startedAt", now)
        containers.append(
            {
                **_named(container, old, restarted=restarted),
                **({"lastState": old["lastState"]} if old.get("lastState") else {}),
                "ready": ready,
                "started": ready,
                "state": {"running": {"startedAt": now if restarted else since}},
            }
        )
    return _whole(pod, now, containers, ready=ready)


def _failed(pod: Json, now: str, *, again: bool) -> Json:
    """Containers that exited with an error: waiting, or (`again`) running anew at once."""
    containers = []
    for container, old in _containers(pod):
        since = (old.get("state") or {}).get("running", {}).get("startedAt", now)
        end = {"exitCode": 1, "reason": "Error", "startedAt": since, "finishedAt": now}
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
        containers.append(
            {
                **_named(container, old, restarted=again),
                "lastState": {"terminated": end},
                "ready": False,
                "started": False,
                "state": {"running": {"startedAt": now}} if again else {"waiting": waiting},
            }
        )
    return _whole(pod, now, containers, ready=False)


def _no_image(pod: Json, now: str) -> Json:
    waiting = {"reason": "ImagePullBackOff", "message": "back-off pulling the image"}
    containers = [
        {
            **_named(container, old, restarted=False),
            "ready": False,
            "started": False,
            "state": {"waiting": waiting},
        }
        for container, old in _containers(pod)
    ]
    return _whole(pod, now, containers, ready=False, phase="Pending")


def _containers(pod: Json) -> list[tuple[Json, Json]]:
    """Each container with the status that it has so far."""
    known = {each["name"]: each for each in pod["status"].get("containerStatuses") or []}
    return [(each, known.get(each["name"], {})) for each in pod["spec"]["containers"]]


def _named(container: Json, old: Json, *, restarted: bool) -> Json:
    count = old.get("restartCount", 0) + (1 if restarted else 0)
    image = container.get("image", "")
    return {"name": container["name"], "image": image, "imageID": "", "restartCount": count}


def _whole(
    pod: Json, now: str, containers: list[Json], *, ready: bool, phase: str = "Running"
) -> Json:
    old = pod["status"]
    start = old.get("startTime", now)
    known = {each["type"]: each for each in old.get("conditions") or []}
    for name in ("Initialized", "PodReadyToStartContainers"):
        known[name] = {"type": name, "status": "True", "lastTransitionTime": start}
    for name in ("ContainersReady", "Ready"):
        known[name] = {
            "type": name,
            "status": "True" if ready else "False",
            "lastTransitionTime": now,
            **({} if ready else {"reason": "ContainersNotReady"}),
        }
    for gate in pod["spec"].get("readinessGates") or []:
        name = gate["conditionType"]
        known[name] = {"type": name, "status": "True", "lastTransitionTime": now}
    return {
        **old,
        "phase": phase,
        "startTime": start,
        "hostIP": "192.0.2.1",
        "podIP": "10.200.0.1",
        "conditions": list(known.values()),
        "containerStatuses": containers,
    }
