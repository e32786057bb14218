"""Verifying: is the rollout good? Then stages and the outcome; else whose fault, and back.

Success is looked for before failure: an operator that was down must not give up what
succeeded meanwhile.
"""

from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import ChampionStatus, Phase, PromotionStatus
from podium.api.reasons import Reason
from podium.engine import blame, ledger, serving, stages
from podium.engine.attempts import entered, turn_back
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.promoting import go_back_if_version_is_gone, point_alias
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


def verifying(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(VERIFYING, seen, now)


def carry_move_again(seen: Observation, now: datetime) -> Decision | None:
    """Somebody took the move off a Deployment (rollout undo, re-created): put it back."""
    attempt = running(seen)
    if serving.target_problem(seen):
        return None  # the deadline decides
    missing = serving.to_apply(seen, attempt.version, attempt.move_id or "")
    if not missing:
        return None
    if not serving.all_by_version(seen) and (alias_first := point_alias(seen, attempt)):
        return alias_first
    return act(seen, *missing)


def wait_or_go_back(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    move = attempt.move_id or ""
    if serving.rolled_out(seen, attempt.version, move):
        return None
    late = attempt.deadline is not None and now >= attempt.deadline
    if late and serving.only_old_pods_linger(seen, attempt.version, move):
        return None  # they are out of the Service's endpoints already
    if (found := blame.of_rollout(seen, attempt, now)) is not None:
        return go_back(seen, now, found)
    if problem := serving.target_problem(seen):
        return blocked(seen, problem, SOON)
    return wait(seen, Reason.ROLLING_OUT, f"rolling out: {serving.describe(seen)}", SOON)


def go_back(seen: Observation, now: datetime, found: blame.Blame) -> Decision:
    """Back to the last good version: quarantine when it was the version's fault, else a hold."""
    attempt = running(seen)
    if not seen.spec.rollback.automatic:
        text = f"{found.message}; rollback.automatic is false: create a PromotionDecision Rollback"
        return stall(seen, found.reason, text)
    return turn_back(
        seen,
        now,
        attempt,
        reason=found.reason,
        message=found.message,
        quarantine=found.at_fault,
        hold=not found.at_fault,
    )


def move_alias_last(seen: Observation, now: datetime) -> Decision | None:
    """Version mode: the alias is an outcome. (In Alias mode it stands there already.)"""
    return point_alias(seen, running(seen))


def settle_stages(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    transition = stages.next_transition(seen, attempt.version, demoted=attempt.previous)
    return act(seen, transition) if transition else None


def record_outcome(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    status = crown(seen, now, EntryAction.PROMOTED)
    said = normal(Reason.PROMOTED, f"version {attempt.version} is {seen.spec.alias} and is served")
    if seen.spec.rollback.bake_duration.seconds > 0:
        baking = replace(entered(attempt, Phase.BAKING, now), baked_at=now)
        return persist(replace(status, attempt=baking), said)
    return persist(replace(status, attempt=entered(attempt, Phase.PROMOTED, now)), said)


def crown(seen: Observation, now: datetime, action: EntryAction) -> PromotionStatus:
    """The attempt's version is the champion now: in the ledger and in status."""
    attempt = running(seen)
    status = ledger.append(
        seen,
        seen.status,
        now,
        action,
        from_version=attempt.previous,
        to=attempt.version,
        attempt=attempt.id,
        move_id=attempt.move_id,
        evidence=attempt.evidence_digest,
    )
    if any(q.version == attempt.version for q in status.quarantined):
        status = ledger.append(
            seen,
            status,
            now,
            EntryAction.RELEASED,
            to=attempt.version,
            attempt=attempt.id,
            reason="spec.candidate named it and it was promoted",
        )
    return replace(
        status,
        champion=ChampionStatus(version=attempt.version, since=now, move_id=attempt.move_id),
        highest_promoted=highest(status.highest_promoted, attempt.version),
        quarantined=tuple(q for q in status.quarantined if q.version != attempt.version),
    )


def highest(one: str | None, other: str) -> str:
    return other if one is None or int(other) > int(one) else one


VERIFYING: Chain = (
    go_back_if_version_is_gone,
    carry_move_again,
    wait_or_go_back,
    move_alias_last,
    settle_stages,
    record_outcome,
)
