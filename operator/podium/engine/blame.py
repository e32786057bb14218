"""Whose fault is it that a rollout does not become good?

Careful: a version is at fault only when one of its containers started and then failed, or
was still not ready at the deadline, with an otherwise unchanged template. Quota, scheduling,
image pull, eviction, or a template that the user changed are nobody's quarantine; nor is a
container that could not load its model because the registry was away.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from podium.api.promotion_status import AttemptStatus
from podium.api.reasons import Reason
from podium.engine.observation import Observation, PodState, Problem, ProblemKind
from podium.engine.serving import target_problem, templates

# Once may be the race of a start (a sidecar, a dependency) that the kubelet's immediate restart
# wins. A second failure is what kubectl calls CrashLoopBackOff: waiting longer helps nobody.
CRASH_LOOP = 2  # exits
_JUST_STARTED = timedelta(seconds=1)


@dataclass(frozen=True)
class Blame:
    at_fault: bool  # the version, so: quarantine. Else: hold
    reason: Reason
    message: str


def of_rollout(seen: Observation, attempt: AttemptStatus, now: datetime) -> Blame | None:
    """None while the rollout may still become good. Success was looked for before."""
    pods = tuple(_pods_of_move(seen, attempt.move_id))
    back_at = seen.registry_back_at
    crashing = any(_spoilt(pod, back_at) and pod.exits >= CRASH_LOOP for pod in pods)
    if not crashing and not _is_late(seen, attempt, now):
        return None
    if problem := target_problem(seen):
        return _of_unread(problem, pods, back_at, asked_long_enough(seen, attempt, now))
    if attempt.templates is not None and templates(seen) != attempt.templates:
        return Blame(
            False,
            Reason.TEMPLATE_CHANGED,
            "the pod template was changed by somebody else during the rollout",
        )
    trouble = next((t.trouble for t in seen.targets if t.trouble), None)
    return _of_pods(pods, trouble, back_at)


def _of_unread(
    problem: Problem, pods: tuple[PodState, ...], back_at: datetime | None, long_enough: bool
) -> Blame | None:
    """A target that cannot be read may have rolled out; and whether its template is the same, so
    that a version is at fault, nobody knows."""
    if problem.kind is ProblemKind.TRANSIENT and not long_enough:
        return None
    if failed := [pod for pod in pods if _spoilt(pod, back_at)]:
        return Blame(
            False, Reason.CONTAINER_FAILED, f"{_failure(failed[0])}; besides, {problem.message}"
        )
    return Blame(False, Reason.PROGRESS_DEADLINE, problem.message)


def _is_late(seen: Observation, attempt: AttemptStatus, now: datetime) -> bool:
    over = deadline(seen, attempt)
    if over is not None and now >= over:
        return True
    exceeded = any(t.observed and t.progress_deadline_exceeded for t in seen.targets)
    again = _time_again(seen, attempt)
    return exceeded and (again is None or now >= again)


def deadline(seen: Observation, attempt: AttemptStatus) -> datetime | None:
    """Until when a move may take. The registry's absence does not count."""
    again = _time_again(seen, attempt)
    return max(attempt.deadline, again) if attempt.deadline and again else attempt.deadline


def asked_long_enough(seen: Observation, attempt: AttemptStatus, now: datetime) -> bool:
    """Whether an API server that gives no answer was asked for the whole time, until the deadline
    or after it. It may have been away until now, and the operator with it."""
    over, since = deadline(seen, attempt), seen.unread_since
    if over is None or since is None or now < over:
        return False
    return now - since >= seen.spec.rollout.progress_deadline.delta


def _time_again(seen: Observation, attempt: AttemptStatus) -> datetime | None:
    """What needs a registry that was away meanwhile has the whole time once more, until then."""
    back_at = seen.registry_back_at
    if back_at is None or back_at <= attempt.phase_started_at:
        return None
    return back_at + seen.spec.rollout.progress_deadline.delta


def _of_pods(
    pods: tuple[PodState, ...], target_trouble: str | None, back_at: datetime | None
) -> Blame:
    if failed := [pod for pod in pods if _spoilt(pod, back_at)]:
        return Blame(True, Reason.CONTAINER_FAILED, _failure(failed[0]))
    if untried := [pod for pod in pods if _fails(pod) and not pod.container_started_at]:
        text = f"pod {untried[0].name} failed while the registry was away and was not started again"
        return Blame(False, Reason.PROGRESS_DEADLINE, text)
    if excused := [pod for pod in pods if pod.disrupted or pod.trouble]:
        why = excused[0].trouble or "it was evicted or its node was lost"
        return Blame(False, Reason.PROGRESS_DEADLINE, f"pod {excused[0].name}: {why}")
    if unready := [pod for pod in pods if pod.started and not pod.ready]:
        text = f"pod {unready[0].name} started but was not ready at the deadline"
        return Blame(True, Reason.NOT_READY_IN_TIME, text)
    if pods:
        text = "the rollout did not finish by the deadline, though no container failed"
    else:
        text = "no pod was created by the deadline"
    why = target_trouble or "see the events of the ReplicaSet"
    return Blame(False, Reason.PROGRESS_DEADLINE, f"{text}: {why}")


def _fails(pod: PodState) -> bool:
    """Its container failed and it is not ready since. (One that serves now keeps nothing up.)"""
    return pod.failed and not pod.ready and not pod.disrupted


def _spoilt(pod: PodState, back_at: datetime | None) -> bool:
    """It fails, and not because the registry was away when that run of its container began."""
    began = pod.failed_run_began
    excused = back_at is not None and began is not None and began < back_at
    return _fails(pod) and not excused


def of_bake(seen: Observation, attempt: AttemptStatus, now: datetime) -> Blame | None:
    """What ends a bake badly: a pod of this move that failed, restarted, lost readiness or does
    not get ready. Disrupted pods, and new ones that are still starting, are not blamed."""
    for pod in _pods_of_move(seen, attempt.move_id):
        if pod.disrupted:
            continue
        started = pod.container_started_at
        if pod.failed and pod.restarts == 0:
            return Blame(True, Reason.CONTAINER_FAILED, _failure(pod))
        if pod.restarts and (started is None or started > attempt.phase_started_at):
            return Blame(True, Reason.CONTAINER_RESTARTED, _failure(pod))
        lost = pod.ready_lost_at
        if lost and not pod.ready and started and lost > started + _JUST_STARTED:
            text = f"pod {pod.name} was ready and is not any more"
            return Blame(True, Reason.READINESS_LOST, text)
        if started and not pod.ready and not pod.trouble and now >= _ready_by(seen, started):
            text = f"pod {pod.name} started and was not ready within rollout.progressDeadline"
            return Blame(True, Reason.NOT_READY_IN_TIME, text)
    return None


def _ready_by(seen: Observation, started: datetime) -> datetime:
    """A bake has no deadline of its own; without this one a pod that never serves would let it
    wait for ever."""
    since = max(started, seen.registry_back_at or started)
    return since + timedelta(seconds=seen.spec.rollout.progress_deadline.seconds)


def _pods_of_move(seen: Observation, move_id: str | None) -> Iterable[PodState]:
    for target in seen.targets:
        for pod in target.pods or ():
            if pod.move_id == move_id and not pod.terminating:
                yield pod


def _failure(pod: PodState) -> str:
    why = f": {pod.exit_message}" if pod.exit_message else ""
    return f"the container of pod {pod.name} failed, {pod.restarts} restarts{why}"
