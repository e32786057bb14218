"""What the targets serve, and whether a rollout of a move is good.

Looks only at Deployments and pods as observed; says nothing about whose fault it is
(`blame`) and changes nothing.
"""

from datetime import datetime, timedelta

from podium.api.promotion import ModelSourceType, Target
from podium.engine.decision import ApplyTarget
from podium.engine.digests import digest
from podium.engine.observation import Observation, PodState, Problem, ProblemKind, TargetState

CLOCK_SLACK = timedelta(seconds=5)  # nodes' clocks and ours


def model_uri(model: str, version: str) -> str:
    return f"models:/{model}/{version}"


def by_version(target: Target) -> bool:
    return target.model_source.type is ModelSourceType.VERSION


def all_by_version(seen: Observation) -> bool:
    """Whether the alias is an outcome: no pod asks for it when it starts."""
    return bool(seen.spec.targets) and all(by_version(target) for target in seen.spec.targets)


def pairs(seen: Observation) -> list[tuple[Target, TargetState]]:
    states = {state.name: state for state in seen.targets}
    return [(t, states[t.name]) for t in seen.spec.targets if t.name in states]


def carries(
    seen: Observation, target: Target, state: TargetState, version: str, move_id: str
) -> bool:
    """Whether the Deployment's pod template is that of this move."""
    if state.move_id != move_id or state.model_version != version:
        return False
    return not by_version(target) or state.env_value == model_uri(seen.spec.model, version)


def asks_alias(seen: Observation, version: str, move_id: str) -> bool:
    """Whether pods of this move may be starting that load the version by the alias."""
    return any(
        not by_version(target) and carries(seen, target, state, version, move_id)
        for target, state in pairs(seen)
    )


def to_apply(
    seen: Observation, version: str, move_id: str, *, version_mode: bool | None = None
) -> tuple[ApplyTarget, ...]:
    """The applies that are still missing for this move (optionally of one mode only)."""
    return tuple(
        ApplyTarget(target.name, version, move_id)
        for target, state in pairs(seen)
        if version_mode in (None, by_version(target))
        and not carries(seen, target, state, version, move_id)
    )


def target_problem(seen: Observation) -> Problem | None:
    """Why a target cannot be read or changed. What ends by itself comes last."""
    problems = (state.problem for state in seen.targets if state.problem)
    return min(problems, key=lambda it: it.kind is ProblemKind.TRANSIENT, default=None)


def rolled_out(seen: Observation, version: str, move_id: str) -> bool:
    """Whether every target's pods are new, available, and no other pod is left (a terminating
    one may still answer on a connection that it kept)."""
    return all(
        carries(seen, target, state, version, move_id)
        and state.settled
        and not any(pod.move_id != move_id for pod in state.pods or ())
        for target, state in pairs(seen)
    )


def only_old_pods_linger(seen: Observation, version: str, move_id: str) -> bool:
    """Whether all that a rollout still waits for is old pods that are terminating."""
    return all(
        carries(seen, target, state, version, move_id)
        and state.settled
        and all(pod.terminating for pod in state.pods or () if pod.move_id != move_id)
        for target, state in pairs(seen)
    )


def serves_as_is(seen: Observation, target: Target, state: TargetState) -> bool:
    """At rest: whether the pod template stands for the champion. A Deployment that Podium never
    moved loads the alias itself when its pods start; by version, it needs the variable. One that
    carries the champion's move already is left alone though its modelSource was changed since:
    that restarts nothing before the next move."""
    champion = seen.status.champion
    if champion is None:
        return True
    if state.move_id is None:
        wanted = model_uri(seen.spec.model, champion.version)
        return not by_version(target) or state.env_value == wanted
    if state.model_version != champion.version:
        return False
    if by_version(target) and _pins_another(seen, state, champion.version):
        return False
    return champion.move_id is None or state.move_id == champion.move_id


def _pins_another(seen: Observation, state: TargetState, version: str) -> bool:
    """Whether the variable names another version of the model."""
    value = state.env_value or ""
    return value.startswith(model_uri(seen.spec.model, "")) and value != model_uri(
        seen.spec.model, version
    )


def templates(seen: Observation) -> str:
    """The digest of all pod templates without what Podium owns: did the user change one?"""
    return digest([[state.name, state.template] for state in seen.targets])


def restarted_since(state: TargetState, since: datetime) -> tuple[PodState, ...]:
    """Pods whose container started after `since`: in Alias mode they loaded whatever the alias
    was then, in place and unseen by the Deployment."""
    return tuple(
        pod
        for pod in state.pods or ()
        if not pod.terminating
        and (pod.container_started_at is None or pod.container_started_at > since - CLOCK_SLACK)
    )


def describe(seen: Observation) -> str:
    """`api 1/2 ready` for each target that is not there yet, and what keeps it."""
    unready = (
        f"{state.name} {min(state.updated, state.available)}/{state.desired} ready"
        + (f" ({state.trouble})" if state.trouble else "")
        for state in seen.targets
        if not state.settled
    )
    return ", ".join(unready) or "old pods have not ended yet"
