"""PromotionDecision: what a person said about a promotion. Its spec never changes."""

from enum import StrEnum

import msgspec

from podium.api.meta import ObjectMeta
from podium.api.values import Resource


class DecisionAction(StrEnum):
    APPROVE = "Approve"
    REJECT = "Reject"
    ROLLBACK = "Rollback"
    HOLD = "Hold"
    RELEASE = "Release"
    RETRY = "Retry"
    FORCE = "Force"  # declared; refused by the CRD in this release


class DecisionOutcome(StrEnum):
    APPLIED = "Applied"
    REFUSED = "Refused"
    EXPIRED = "Expired"


class PromotionRef(Resource, frozen=True, kw_only=True):
    name: str
    uid: str | None = None


class PromotionDecisionSpec(Resource, frozen=True, kw_only=True):
    promotion_ref: PromotionRef
    action: DecisionAction
    attempt_id: str | None = msgspec.field(default=None, name="attemptID")
    version: str | None = None
    evidence_digest: str | None = None
    decided_by: str | None = None
    reason: str | None = None


class PromotionDecisionStatus(Resource, frozen=True, kw_only=True):
    outcome: DecisionOutcome | None = None
    message: str | None = None


class PromotionDecision(Resource, frozen=True, kw_only=True):
    metadata: ObjectMeta
    spec: PromotionDecisionSpec
    status: PromotionDecisionStatus = PromotionDecisionStatus()
