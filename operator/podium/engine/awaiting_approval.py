"""AwaitingApproval: the gates have passed, people have to agree.

Approvals arrive as PromotionDecisions (`answering`); here it is judged whether they are
enough, still about the same evidence, and in time.
"""

from datetime import datetime

from msgspec.structs import replace

from podium.api.promotion_status import Phase, Verdict
from podium.api.reasons import Reason
from podium.engine.attempts import end, entered
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.steps import Chain, first_decision, normal, persist, wait
from podium.engine.validating import (
    approvals_missing,
    binding,
    end_if_selector_changed,
    end_if_superseded,
    end_if_version_is_gone,
    evidence,
    running,
    wait_while_suspended_or_held,
)


def awaiting_approval(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(AWAITING_APPROVAL, seen, now)


def validate_again_if_evidence_changed(seen: Observation, now: datetime) -> Decision | None:
    """What was approved is the digest: other gates or other inputs void the approvals. A gate
    that cannot be asked just now says nothing about its inputs."""
    attempt = running(seen)
    unknown = any(gate.verdict is Verdict.ERROR for gate in binding(seen))
    if unknown or evidence(seen) == attempt.evidence_digest:
        return None
    again = replace(entered(attempt, Phase.VALIDATING, now), approvals=(), evidence_digest=None)
    return persist(replace(seen.status, attempt=again))


def go_on_when_approved(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if approvals_missing(seen, attempt):
        return None
    promoting = entered(attempt, Phase.PROMOTING, now)
    names = ", ".join(approval.by for approval in attempt.approvals) or "nobody is asked any more"
    said = normal(Reason.APPROVED, f"version {attempt.version} was approved by {names}")
    return persist(replace(seen.status, attempt=promoting), said)


def keep_to_expire_after(seen: Observation, now: datetime) -> Decision | None:
    """The deadline follows the spec, also while people think."""
    attempt = running(seen)
    assert seen.spec.approval is not None
    deadline = attempt.phase_started_at + seen.spec.approval.expire_after.delta
    if attempt.deadline == deadline:
        return None
    return persist(replace(seen.status, attempt=replace(attempt, deadline=deadline)))


def expire(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if attempt.deadline is None or now < attempt.deadline:
        return None
    message = f"not approved by {attempt.deadline.isoformat(timespec='seconds')}"
    return end(seen, now, Phase.EXPIRED, Reason.APPROVAL_EXPIRED, message)


def wait_for_approvals(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    required = seen.spec.approval.required if seen.spec.approval else 0
    given = required - approvals_missing(seen, attempt)
    message = (
        f"{given} of {required} approvals; create a PromotionDecision Approve "
        f"with attemptID {attempt.id} and evidenceDigest {attempt.evidence_digest}"
    )
    left = attempt.deadline - now if attempt.deadline else None
    return wait(seen, Reason.AWAITING_APPROVAL, message, left)


AWAITING_APPROVAL: Chain = (
    end_if_version_is_gone,
    end_if_selector_changed,
    end_if_superseded,
    validate_again_if_evidence_changed,
    wait_while_suspended_or_held,
    go_on_when_approved,
    keep_to_expire_after,
    expire,
    wait_for_approvals,
)
