"""A pod as the engine sees it: what its version can be blamed for, and what it cannot.

Only the target's own container speaks for the version. What the node, the scheduler, an image,
a sidecar or an init container did is `disrupted` or `trouble`. Container messages (log tails) are
never repeated: they can hold anything, secrets too.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from podium.cluster.resources import Raw
from podium.engine.observation import PodState

MOVE_ID = "podium.dev/move-id"

# status.reason of a pod that the cluster ended.
_DISRUPTED = frozenset(
    {"Evicted", "Preempting", "NodeLost", "Shutdown", "NodeShutdown", "Terminated", "NodeAffinity"}
    | {"UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods"}
)
# The runtime could not start the process, or the kubelet lost track of it (a node that rebooted).
_NEVER_RAN = frozenset({"ContainerCannotRun", "StartError"})
_LOST_TRACK = frozenset({"ContainerStatusUnknown", "Unknown"})
_ON_ITS_WAY = frozenset({"", "ContainerCreating", "PodInitializing"})
_CRASH_LOOP = "CrashLoopBackOff"


def pod_state(pod: Raw, container: str) -> PodState:
    """`container` is the name of the target's container."""
    metadata, status = mapping(pod, "metadata"), mapping(pod, "status")
    own = _status_of(status, container)
    now, before = mapping(own, "state"), mapping(own, "lastState")
    terminating = bool(metadata.get("deletionTimestamp"))
    ready = _condition(status, "Ready")
    disrupted = _is_disrupted(status, ready)
    # What ends a pod also ends its container: that exit says nothing about the version.
    ends = [mapping(before, "terminated")]
    stands_still = False
    if not (terminating or disrupted):
        stands_still = bool(mapping(now, "terminated"))
        ends.insert(0, mapping(now, "terminated"))
    failures = [end for end in ends if _is_failure(end)]
    crash_loop = mapping(now, "waiting").get("reason") == _CRASH_LOOP
    if crash_loop and mapping(before, "terminated").get("reason") in _NEVER_RAN:
        crash_loop = False
    running_since = _time(mapping(now, "running").get("startedAt"))
    first_start = _first_start(now, before)
    restarts = cast(int, own.get("restartCount") or 0)
    lost_at = _time(ready.get("lastTransitionTime")) if ready.get("status") == "False" else None
    return PodState(
        name=str(metadata.get("name")),
        move_id=cast(str | None, mapping(metadata, "annotations").get(MOVE_ID)),
        ready=ready.get("status") == "True",
        terminating=terminating,
        started=first_start is not None,
        restarts=restarts,
        exits=restarts + (1 if stands_still or crash_loop else 0),
        failed=bool(failures) or crash_loop,
        container_started_at=running_since,
        failed_run_began=_time(failures[0].get("startedAt")) if failures else None,
        ready_since=_time(ready.get("lastTransitionTime"))
        if ready.get("status") == "True"
        else None,
        ready_lost_at=lost_at if lost_at and first_start and lost_at > first_start else None,
        disrupted=disrupted,
        trouble=_trouble(status, container, own, ready),
        exit_message=_exit_message(container, failures, crash_loop),
    )


def _status_of(status: Raw, container: str) -> Raw:
    for one in sequence(status, "containerStatuses"):
        if one.get("name") == container:
            return one
    return {}


def _is_disrupted(status: Raw, ready: Raw) -> bool:
    if status.get("reason") in _DISRUPTED:
        return True
    if _condition(status, "DisruptionTarget").get("status") == "True":
        return True
    # The node's silence: the controller takes Ready away and the kubelet cannot say the rest.
    return (
        ready.get("status") == "False"
        and not ready.get("reason")
        and _condition(status, "ContainersReady").get("status") == "True"
    )


def _ran(end: Raw) -> bool:
    return bool(end) and end.get("reason") not in _NEVER_RAN


def _is_failure(end: Raw) -> bool:
    """An exit that speaks against the version: an error, or more memory than it may have."""
    if not _ran(end) or end.get("reason") in _LOST_TRACK:
        return False
    return end.get("exitCode") != 0 or end.get("reason") == "OOMKilled"


def _first_start(now: Raw, before: Raw) -> datetime | None:
    """The earliest start of the container's process that the status still tells of."""
    ends = [mapping(before, "terminated"), mapping(now, "terminated")]
    starts = [_time(end.get("startedAt")) for end in ends if _ran(end)]
    starts.append(_time(mapping(now, "running").get("startedAt")))
    known = [start for start in starts if start is not None]
    return min(known) if known else None


def _trouble(status: Raw, container: str, own: Raw, ready: Raw) -> str | None:
    """What keeps the pod from being ready and is not the version's fault."""
    if status.get("phase") == "Failed" and status.get("reason"):
        return f"{status['reason']}: {status.get('message') or 'the pod was ended'}"
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        reason = scheduled.get("reason") or "Unschedulable"
        return f"{reason}: {scheduled.get('message') or 'no node takes the pod'}"
    for one in sequence(status, "initContainerStatuses"):
        trouble = _container_trouble("init container", one)
        if trouble:
            return trouble
    waiting = mapping(own, "state", "waiting")
    reason = str(waiting.get("reason") or "")
    for end in (mapping(own, "state", "terminated"), mapping(own, "lastState", "terminated")):
        if end.get("reason") in _NEVER_RAN:
            return f"container {container} could not be started ({end['reason']})"
    if waiting and reason not in _ON_ITS_WAY and reason != _CRASH_LOOP:
        return f"container {container}: {reason}"
    if ready.get("status") == "True":
        return None
    for one in sequence(status, "containerStatuses"):
        if one.get("name") != container:
            trouble = _container_trouble("container", one)
            if trouble:
                return trouble
    if own.get("ready") is True and ready.get("reason") == "ReadinessGatesNotReady":
        return f"ReadinessGatesNotReady: {ready.get('message') or 'a readiness gate is not met'}"
    return None


def _container_trouble(what: str, one: Raw) -> str | None:
    """Of a container that is not the target's."""
    reason = str(mapping(one, "state", "waiting").get("reason") or "")
    if reason not in _ON_ITS_WAY:
        return f"{what} {one.get('name')}: {reason}"
    end = mapping(one, "state", "terminated")
    if end and end.get("exitCode") != 0:
        return f"{what} {one.get('name')} exited with code {end.get('exitCode')}"
    if what == "container" and mapping(one, "state", "running") and one.get("ready") is False:
        return f"{what} {one.get('name')} is not ready"
    return None


def _exit_message(container: str, failures: Sequence[Raw], crash_loop: bool) -> str | None:
    if failures:
        end = failures[0]
        reason = str(end.get("reason") or "Error")
        return (
            f"container {container} exited with code {end.get('exitCode')} ({reason}); "
            "see `kubectl logs --previous`"
        )
    if crash_loop:
        return f"container {container} exits again and again ({_CRASH_LOOP})"
    return None


def _condition(status: Raw, kind: str) -> Raw:
    for one in sequence(status, "conditions"):
        if one.get("type") == kind:
            return one
    return {}


def _time(value: object) -> datetime | None:
    if not isinstance(value, str) or value.startswith("1970-"):  # StartError has the epoch
        return None
    return datetime.fromisoformat(value)


def mapping(source: Mapping[str, object], *path: str) -> Raw:
    """The mapping at that path; empty where something on the way is absent."""
    for key in path:
        source = cast(Raw, source.get(key) or {})
    return source


def sequence(source: Mapping[str, object], key: str) -> Sequence[Raw]:
    return cast(Sequence[Raw], source.get(key) or ())
