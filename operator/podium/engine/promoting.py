"""Promoting: the alias moves and the targets follow.

Decides the next step of an attempt that has earned its place; whether it deserves it is
decided in `validating` and `awaiting_approval`, whether the rollout is good in `verifying`.
"""

from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import AttemptStatus, Origin, Phase, Verdict
from podium.api.reasons import Reason
from podium.engine import ledger, serving
from podium.engine.attempts import end, entered, move_id, turn_back
from podium.engine.awaiting_approval import validate_again_if_evidence_changed
from podium.engine.blame import asked_long_enough, deadline
from podium.engine.decision import ApplyTarget, Decision, SetAlias
from podium.engine.observation import Observation, Problem, ProblemKind
from podium.engine.steps import SLOWLY, SOON, Chain, act, blocked, first_decision, persist, wait
from podium.engine.validating import (
    approvals_missing,
    ask_for_approval,
    binding,
    end_if_selector_changed,
    end_if_superseded,
    end_if_version_is_gone,
    running,
    wait_while_suspended_or_held,
)


def promoting(seen: Observation, now: datetime) -> Decision | None:
    chain = MOVING if running(seen).move_id else BEFORE_INTENT
    return first_decision(chain, seen, now)


def ask_again_if_approvals_are_missing(seen: Observation, now: datetime) -> Decision | None:
    """spec.approval may ask for more than it did when the attempt came here (I1)."""
    attempt = running(seen)
    return ask_for_approval(seen, now, attempt) if approvals_missing(seen, attempt) else None


def recheck_timed_gates(seen: Observation, now: datetime) -> Decision | None:
    """Windows and soak may have passed since approval."""
    unmet = [g for g in binding(seen) if g.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)]
    if not unmet:
        return None
    return wait(seen, Reason.GATE_PENDING, f"gate {unmet[0].name}: {unmet[0].message}", SLOWLY)


def expire_if_a_gate_gives_no_verdict(seen: Observation, now: datetime) -> Decision | None:
    """What was proved stands while a gate cannot be asked, for as long as its deadline is."""
    attempt = running(seen)
    before = {gate.name: gate.silent_since for gate in attempt.gates}
    silent = {
        g.name: before.get(g.name) or now for g in binding(seen) if g.verdict is Verdict.ERROR
    }
    if seen.spec.suspend or seen.status.hold:
        silent = {}
    limits = {g.name: g.deadline.delta for g in seen.spec.gates if not g.min_age}
    due = {name: since + limits[name] for name, since in silent.items() if name in limits}
    if over := sorted(name for name, at in due.items() if now >= at):
        message = f"gate {', '.join(over)} gave no verdict until the deadline"
        return end(seen, now, Phase.EXPIRED, Reason.GATE_FAILED, message)
    if silent == {name: since for name, since in before.items() if since}:
        return None
    gates = tuple(replace(g, silent_since=silent.get(g.name)) for g in seen.gates)
    kept = replace(attempt, deadline=min(due.values(), default=None), gates=gates)
    return persist(replace(seen.status, attempt=kept))


def wait_for_targets(seen: Observation, now: datetime) -> Decision | None:
    """Nothing moves while a Deployment could not follow."""
    problem = serving.target_problem(seen)
    return blocked(seen, problem, seen.poll_interval) if problem else None


def wait_for_rollout_slot(seen: Observation, now: datetime) -> Decision | None:
    if seen.rollout_slot or not seen.spec.targets:
        return None
    return wait(seen, Reason.ROLLOUT_LIMIT, "as many rollouts run as --max-rollouts allows", SOON)


def record_intent(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    move = move_id(seen, now, f"to {attempt.version}")
    status = ledger.append(
        seen,
        seen.status,
        now,
        EntryAction.PROMOTE_INTENT,
        from_version=attempt.previous if attempt.origin is Origin.ADOPT else seen.alias,
        to=attempt.version,
        attempt=attempt.id,
        move_id=move,
        reason=attempt.origin.value,
        evidence=attempt.evidence_digest,
    )
    limit = seen.spec.rollout.progress_deadline.delta
    moving = replace(
        entered(attempt, Phase.PROMOTING, now, limit),
        move_id=move,
        templates=serving.templates(seen),
    )
    return persist(replace(status, attempt=moving))


def go_back_if_version_is_gone(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    version = seen.version(attempt.version)
    if version is not None and version.ready:
        return None
    message = f"version {attempt.version} was deleted or is not READY any more"
    return turn_back(seen, now, attempt, reason=Reason.VERSION_NOT_FOUND, message=message)


def change_pinned_targets(seen: Observation, now: datetime) -> Decision | None:
    """Version mode: the Deployment first."""
    attempt = running(seen)
    missing = serving.to_apply(seen, attempt.version, attempt.move_id or "", version_mode=True)
    return _apply(seen, now, attempt, missing)


def move_alias(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if serving.all_by_version(seen) and attempt.origin is not Origin.ADOPT:
        return None  # it follows in Verifying, as an outcome
    return point_alias(seen, attempt)


def point_alias(seen: Observation, attempt: AttemptStatus) -> Decision | None:
    if seen.alias == attempt.version:
        return None
    return act(seen, SetAlias(to=attempt.version, expect=seen.alias))


def restart_targets(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    return _apply(
        seen, now, attempt, serving.to_apply(seen, attempt.version, attempt.move_id or "")
    )


def _apply(
    seen: Observation, now: datetime, attempt: AttemptStatus, missing: tuple[ApplyTarget, ...]
) -> Decision | None:
    if not missing:
        return None
    if (why := _not_in_time(seen, attempt, missing, now)) and seen.spec.rollback.automatic:
        return turn_back(
            seen, now, attempt, reason=Reason.PROGRESS_DEADLINE, message=why.message, hold=True
        )
    if problem := serving.target_problem(seen):
        return blocked(seen, problem, SOON)
    return act(seen, *missing)


def _not_in_time(
    seen: Observation, attempt: AttemptStatus, missing: tuple[ApplyTarget, ...], now: datetime
) -> Problem | None:
    """Why a target could not be changed by the deadline."""
    over = deadline(seen, attempt)
    if over is None or now < over:
        return None
    found = serving.target_problem(seen)
    transient = found is not None and found.kind is ProblemKind.TRANSIENT
    if found and (not transient or asked_long_enough(seen, attempt, now)):
        return found
    tried = seen.failed_try
    if tried is None or tried.began < attempt.phase_started_at:
        return None
    if tried.target not in {each.target for each in missing}:
        return None  # it took effect after all
    if tried.problem.kind is ProblemKind.TRANSIENT and tried.began < over:
        return None
    return tried.problem


def verify(seen: Observation, now: datetime) -> Decision | None:
    limit = seen.spec.rollout.progress_deadline.delta
    return persist(
        replace(seen.status, attempt=entered(running(seen), Phase.VERIFYING, now, limit))
    )


BEFORE_INTENT: Chain = (
    end_if_version_is_gone,
    end_if_selector_changed,
    end_if_superseded,
    validate_again_if_evidence_changed,
    ask_again_if_approvals_are_missing,
    expire_if_a_gate_gives_no_verdict,
    wait_while_suspended_or_held,
    recheck_timed_gates,
    wait_for_targets,
    wait_for_rollout_slot,
    record_intent,
)
MOVING: Chain = (
    go_back_if_version_is_gone,
    change_pinned_targets,
    move_alias,
    restart_targets,
    verify,
)
