"""RollingBack: the last good version becomes the champion again.

Also how a drifted alias comes back (origin Drift). A rollback is never rolled back: when its
targets do not become ready either, a person must act, and it goes on by itself when they do.
"""

from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import (
    AttemptStatus,
    ChampionStatus,
    Origin,
    Phase,
    RollbackStatus,
)
from podium.api.reasons import Reason
from podium.engine import ledger, serving, stages
from podium.engine.attempts import entered, turn_back
from podium.engine.decision import ApplyTarget, Decision, SetAlias
from podium.engine.observation import Observation
from podium.engine.steps import (
    SOON,
    Chain,
    act,
    blocked,
    first_decision,
    normal,
    persist,
    stall,
    wait,
)
from podium.engine.validating import running


def rolling_back(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(ROLLING_BACK, seen, now)


def going(attempt: AttemptStatus) -> RollbackStatus:
    assert attempt.rollback is not None, "RollingBack is only entered with a destination"
    return attempt.rollback


def choose_again_if_destination_is_gone(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    back = going(attempt)
    version = seen.version(back.to)
    if version is not None and version.ready:
        return None
    message = f"version {back.to} was deleted or is not READY any more; {back.message}"
    return turn_back(
        seen,
        now,
        attempt,
        reason=Reason(back.reason),
        message=message,
        hold=back.hold,
        decision=back.decision,
        by=back.by,
    )


def move_alias_back(seen: Observation, now: datetime) -> Decision | None:
    back = going(running(seen))
    if seen.alias == back.to:
        return None
    return act(seen, SetAlias(to=back.to, expect=seen.alias))


def restart_targets(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    back = going(attempt)
    missing = tuple(
        ApplyTarget(target.name, back.to, back.move_id or "")
        for target in seen.spec.targets
        if target.name in _to_restart(seen, attempt)
    )
    troubled = {state.name for state in seen.targets if state.problem}
    reachable = tuple(apply for apply in missing if apply.target not in troubled)
    if reachable:  # what failed is left where it can be, whatever another target waits for
        return act(seen, *reachable)
    problem = serving.target_problem(seen)
    return blocked(seen, problem, SOON) if missing and problem else None


def _to_restart(seen: Observation, attempt: AttemptStatus) -> frozenset[str]:
    """Targets that carry another move, or whose containers may have loaded another version. A
    target that never left the destination's move and started no container since is left alone."""
    back = going(attempt)
    wanted = back.move_id or ""
    names = set()
    for target, state in serving.pairs(seen):
        if serving.carries(seen, target, state, back.to, wanted):
            continue
        if attempt.origin is Origin.DRIFT and _untouched(seen, attempt, state.name):
            continue
        names.add(target.name)
    return frozenset(names)


def _untouched(seen: Observation, attempt: AttemptStatus, name: str) -> bool:
    """Drift: whether this target still runs what it ran before somebody moved the alias."""
    target, state = next(pair for pair in serving.pairs(seen) if pair[1].name == name)
    champion = seen.status.champion
    if champion is None or champion.version != going(attempt).to or state.problem is not None:
        return False
    same_move = state.move_id is None or (
        state.move_id == champion.move_id and state.model_version == champion.version
    )
    if serving.by_version(target):
        return same_move and state.env_value == serving.model_uri(seen.spec.model, champion.version)
    # Nobody knows when the alias was moved (MLflow keeps no time): any later start is suspect.
    return same_move and not serving.restarted_since(state, champion.since)


def wait_until_good(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    back = going(attempt)
    unready = [
        state for target, state in serving.pairs(seen) if not _good(seen, attempt, target.name)
    ]
    if not unready:
        return None
    if attempt.deadline is not None and now >= attempt.deadline:
        lingering = serving.only_old_pods_linger(seen, back.to, back.move_id or "")
        if lingering:
            return None
        text = f"version {back.to} does not become ready either: {serving.describe(seen)}"
        return stall(seen, Reason.ROLLBACK_FAILED, text)
    text = f"going back to version {back.to}: {serving.describe(seen)}"
    return wait(seen, Reason.ROLLING_OUT, text, SOON)


def _good(seen: Observation, attempt: AttemptStatus, name: str) -> bool:
    back = going(attempt)
    target, state = next(pair for pair in serving.pairs(seen) if pair[1].name == name)
    if not serving.carries(seen, target, state, back.to, back.move_id or ""):
        return attempt.origin is Origin.DRIFT  # it was left alone
    return state.settled and not any(p.move_id != back.move_id for p in state.pods or ())


def settle_stages(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if attempt.origin is Origin.DRIFT:
        transition = stages.next_transition(seen, going(attempt).to)
    else:
        transition = stages.next_transition(
            seen, going(attempt).to, demoted=attempt.version
        ) or stages.archive_failed(seen, attempt.version)
    return act(seen, transition) if transition else None


def record_outcome(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    back = going(attempt)
    drift = attempt.origin is Origin.DRIFT
    champion = seen.status.champion
    restarted = any(state.move_id == back.move_id for state in seen.targets)
    if champion is None or champion.version != back.to or restarted or not drift:
        champion = ChampionStatus(version=back.to, since=now, move_id=back.move_id)
    status = ledger.append(
        seen,
        seen.status,
        now,
        EntryAction.REVERTED if drift else EntryAction.ROLLED_BACK,
        from_version=attempt.version,
        to=back.to,
        attempt=attempt.id,
        move_id=champion.move_id,
        reason=f"{back.reason}: {back.message}",
        decision=back.decision,
        by=back.by,
    )
    done = replace(
        entered(attempt, Phase.ROLLED_BACK, now), reason=back.reason, message=back.message
    )
    reason = Reason.ALIAS_REVERTED if drift else Reason.ROLLED_BACK
    text = f"version {back.to} is {seen.spec.alias} again: {back.message}"
    return persist(replace(status, attempt=done, champion=champion), normal(reason, text))


ROLLING_BACK: Chain = (
    choose_again_if_destination_is_gone,
    move_alias_back,
    restart_targets,
    wait_until_good,
    settle_stages,
    record_outcome,
)
