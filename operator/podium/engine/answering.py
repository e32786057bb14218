"""Answering: what people said (PromotionDecisions) is carried out, once, and answered.

The effect is persisted first, with the decision's name in the ledger; the answer follows in
the next pass. So a crash between the two repeats the answer, not the effect.
"""

from datetime import datetime

from msgspec.structs import replace

from podium.api.decision import DecisionAction, DecisionOutcome, PromotionDecision
from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import (
    ApprovalStatus,
    AttemptStatus,
    HoldStatus,
    Origin,
    Phase,
    PromotionStatus,
)
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.attempts import (
    NAME_SHOWN,
    REASON_SHOWN,
    begin,
    destination_of,
    end,
    turn_back,
)
from podium.engine.candidate import failure, last_good, quarantined, verdict
from podium.engine.decision import AnswerDecision, Decision
from podium.engine.observation import Observation
from podium.engine.steps import act, clip, normal, persist, warning
from podium.engine.validating import authors

BY_NOBODY = "unknown"


def answer_decisions(seen: Observation, now: datetime) -> Decision | None:
    """The oldest decision without an answer."""
    if not seen.decisions:
        return None
    said = seen.decisions[0]
    if (earlier := _carried_out(seen, said)) is not None:
        return _answer(seen, said, DecisionOutcome.APPLIED, earlier)
    if not seen.concerns(said):
        text = "it names the uid of an earlier promotion of this name"
        return _answer(seen, said, DecisionOutcome.EXPIRED, text)
    return _CARRY_OUT[said.spec.action](seen, now, said)


def _carried_out(seen: Observation, said: PromotionDecision) -> str | None:
    for entry in reversed(ledger.recorded(seen)):
        if entry.decision == _reference(said):
            return f"ledger entry {entry.seq}: {entry.action}"
    return None


def _reference(said: PromotionDecision) -> str:
    """Name and uid: a decision deleted and created again under its name is another one."""
    return f"{said.metadata.name}/{said.metadata.uid}"


def _answer(
    seen: Observation, said: PromotionDecision, outcome: DecisionOutcome, message: str
) -> Decision:
    answer = AnswerDecision(said.metadata.name, said.metadata.uid, outcome, clip(message))
    reason = Reason.DECISION_REFUSED
    event = warning(reason, f"{said.spec.action} {said.metadata.name}: {message}")
    if outcome is DecisionOutcome.APPLIED:
        event = normal(Reason.DECISION_APPLIED, f"{said.spec.action} {said.metadata.name}")
    return act(seen, answer, events=(event,))


def _refuse(seen: Observation, said: PromotionDecision, message: str) -> Decision:
    return _answer(seen, said, DecisionOutcome.REFUSED, message)


def _note(
    seen: Observation,
    status: PromotionStatus,
    now: datetime,
    action: EntryAction,
    said: PromotionDecision,
    version: str | None = None,
) -> PromotionStatus:
    attempt = seen.status.attempt
    return ledger.append(
        seen,
        status,
        now,
        action,
        to=version,
        attempt=attempt.id if attempt else None,
        reason=said.spec.reason or "",
        decision=_reference(said),
        by=said.spec.decided_by,
        evidence=said.spec.evidence_digest,
    )


def approve(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    attempt = seen.attempt
    if attempt is None or attempt.id != said.spec.attempt_id:
        text = f"attempt {said.spec.attempt_id} is not running (any more)"
        return _answer(seen, said, DecisionOutcome.EXPIRED, text)
    if attempt.phase is not Phase.AWAITING_APPROVAL:
        return _refuse(seen, said, f"attempt {attempt.id} is {attempt.phase}, it asks for nothing")
    if attempt.evidence_digest != said.spec.evidence_digest:
        return _refuse(seen, said, f"the evidence is {attempt.evidence_digest} now; look again")
    by = clip(said.spec.decided_by or BY_NOBODY, NAME_SHOWN)
    if trouble := _may_not_approve(seen, attempt, by):
        return _refuse(seen, said, trouble)
    approval = ApprovalStatus(decision=said.metadata.name, by=by)
    status = _note(seen, seen.status, now, EntryAction.APPROVED, said, attempt.version)
    approved = replace(attempt, approvals=(*attempt.approvals, approval))
    return persist(replace(status, attempt=approved))


def _may_not_approve(seen: Observation, attempt: AttemptStatus, by: str) -> str | None:
    if seen.spec.approval and seen.spec.approval.exclude_authors:
        version = seen.version(attempt.version)
        if version is not None and version.authors is None:
            return (
                f"the run of version {attempt.version} is gone, so that nobody knows its authors; "
                "register the version anew, or set approval.excludeAuthors to false"
            )
        author = seen.promotion.metadata.annotations.get("podium.dev/spec-author")
        if by == author or by in authors(seen, attempt):
            return f"{by} is an author; approval.excludeAuthors is true"
    if any(approval.by == by for approval in attempt.approvals):
        return f"{by} has approved already"
    return None


def reject(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    attempt = seen.attempt
    named = attempt is not None and (
        said.spec.attempt_id == attempt.id
        or (said.spec.attempt_id is None and said.spec.version == attempt.version)
    )
    if attempt is None or not named:
        return _answer(
            seen, said, DecisionOutcome.EXPIRED, "that attempt is not running (any more)"
        )
    if attempt.move_id is not None or attempt.phase is Phase.ROLLING_BACK:
        return _refuse(seen, said, f"attempt {attempt.id} is {attempt.phase}: use action Rollback")
    return end(
        seen,
        now,
        Phase.REJECTED,
        Reason.REJECTED_BY_DECISION,
        said.spec.reason or f"rejected by {said.spec.decided_by or BY_NOBODY}",
        decision=_reference(said),
        by=said.spec.decided_by,
    )


def rollback(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    """Gives the alias back to the version named, or to the last good one; ends in a hold."""
    attempt = seen.attempt
    if attempt and attempt.rollback:
        return _redirect(seen, now, said, attempt, attempt.rollback.to)
    moving = attempt if attempt and attempt.move_id else None
    leaving = moving.version if moving else _serving(seen)
    if leaving is None:
        return _refuse(seen, said, "there is no champion to roll back from")
    to = said.spec.version or _default_destination(seen, moving, leaving)
    if to is None:
        return _refuse(seen, said, "the ledger names no earlier champion; name a version")
    if trouble := _no_destination(seen, to, leaving):
        return _refuse(seen, said, trouble)
    if attempt and not moving:
        # This decision is carried out when that attempt's end is in the ledger.
        text = f"a person said Rollback ({said.metadata.name})"
        return end(seen, now, Phase.SUPERSEDED, Reason.ROLLBACK_BY_DECISION, text)
    back = moving or begin(seen, now, leaving, Origin.DECISION, previous=seen.alias)
    return _send_back(seen, now, said, back, to)


def _serving(seen: Observation) -> str | None:
    """The champion; without one, what was tried last: nobody took its targets back."""
    last = seen.status.attempt
    return seen.status.champion_version or (last.version if last and last.move_id else None)


def _default_destination(
    seen: Observation, moving: AttemptStatus | None, leaving: str
) -> str | None:
    if moving is None:
        return last_good(seen, leaving=leaving)
    to, inferred = destination_of(seen, moving)
    return None if inferred else to


def _redirect(
    seen: Observation, now: datetime, said: PromotionDecision, attempt: AttemptStatus, to: str
) -> Decision:
    """A rollback that runs (or does not become ready) can be sent to another version."""
    if said.spec.version in (None, to):
        return _refuse(seen, said, f"a rollback to {to} is running already")
    if trouble := _no_destination(seen, said.spec.version, to):
        return _refuse(seen, said, trouble)
    return _send_back(seen, now, said, replace(attempt, previous=seen.alias), said.spec.version)


def _send_back(
    seen: Observation, now: datetime, said: PromotionDecision, attempt: AttemptStatus, to: str
) -> Decision:
    return turn_back(
        seen,
        now,
        attempt,
        reason=Reason.ROLLBACK_BY_DECISION,
        message=said.spec.reason or f"decided by {said.spec.decided_by or BY_NOBODY}",
        hold=True,
        to=to,
        decision=_reference(said),
        by=said.spec.decided_by,
    )


def _no_destination(seen: Observation, to: str, leaving: str) -> str | None:
    version = seen.version(to)
    if to == leaving:
        return f"version {to} is what it should go back from"
    if version is None or not version.ready:
        return f"version {to} does not exist or is not READY"
    if to in quarantined(seen):
        return f"version {to} is in quarantine: create a PromotionDecision Release first"
    return None


def hold(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    reason = f"{Reason.HELD_BY_DECISION}: {said.spec.reason or said.metadata.name}"
    status = _note(seen, seen.status, now, EntryAction.HELD, said)
    held = HoldStatus(since=now, reason=clip(reason, REASON_SHOWN))
    return persist(replace(status, hold=held), normal(Reason.HELD_BY_DECISION, reason))


def release(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    """With a version: lifts its quarantine, or that it was rolled back. Without: lifts the hold.
    (A foreign claim or an unknown signer is lifted before this chain is reached; then the ledger
    says so.)"""
    version = said.spec.version
    status = _note(seen, seen.status, now, EntryAction.RELEASED, said, version)
    if version is None:
        return persist(replace(status, hold=None), normal(Reason.RELEASED, "the hold is lifted"))
    if version not in quarantined(seen) and failure(seen, version) is None:
        return _refuse(seen, said, f"version {version} is not in quarantine, nor was rolled back")
    left = tuple(q for q in status.quarantined if q.version != version)
    text = f"version {version} may be tried again"
    return persist(replace(status, quarantined=left), normal(Reason.RELEASED, text))


def retry(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    version = said.spec.version
    if version is None or seen.version(version) is None:
        return _refuse(seen, said, f"version {version} does not exist")
    selector, refused = seen.spec.candidate, verdict(seen, version)
    named = selector is not None and selector.version == version
    if version in quarantined(seen) and not (named and refused):
        return _refuse(seen, said, f"version {version} is in quarantine: use action Release")
    if failure(seen, version) and not (named and refused):
        return _refuse(seen, said, f"version {version} was rolled back: use action Release")
    if refused is None:
        return _refuse(seen, said, f"version {version} was neither rejected nor expired here")
    status = _note(seen, seen.status, now, EntryAction.RETRIED, said, version)
    return persist(status, normal(Reason.RETRIED, f"version {version} may be tried again"))


def force(seen: Observation, now: datetime, said: PromotionDecision) -> Decision:
    return _refuse(seen, said, "action Force is not in this release")


_CARRY_OUT = {
    DecisionAction.APPROVE: approve,
    DecisionAction.REJECT: reject,
    DecisionAction.ROLLBACK: rollback,
    DecisionAction.HOLD: hold,
    DecisionAction.RELEASE: release,
    DecisionAction.RETRY: retry,
    DecisionAction.FORCE: force,
}
