"""What Podium remembers of a promotion. It is the operator's only memory: see the ledger
for how it is read back when it is gone."""

from datetime import datetime
from enum import StrEnum

import msgspec

from podium.api.ledger_entry import LedgerEntry
from podium.api.meta import Condition
from podium.api.values import Resource


class Phase(StrEnum):
    VALIDATING = "Validating"
    AWAITING_APPROVAL = "AwaitingApproval"
    PROMOTING = "Promoting"
    VERIFYING = "Verifying"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    PROMOTED = "Promoted"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    SUPERSEDED = "Superseded"
    ROLLED_BACK = "RolledBack"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset(
    {Phase.PROMOTED, Phase.REJECTED, Phase.EXPIRED, Phase.SUPERSEDED, Phase.ROLLED_BACK}
)


class Origin(StrEnum):
    """What began an attempt."""

    CANDIDATE = "Candidate"  # spec.candidate points at a version
    ADOPT = "Adopt"  # somebody moved the alias, and the policy is to follow
    DECISION = "Decision"  # a person said Rollback
    DRIFT = "Drift"  # somebody moved the alias, and the policy is to move it back


class Verdict(StrEnum):
    PASS = "Pass"  # noqa: S105
    FAIL = "Fail"
    INCONCLUSIVE = "Inconclusive"
    PENDING = "Pending"
    ERROR = "Error"
    NOT_APPLICABLE = "NotApplicable"


class GateStatus(Resource, frozen=True, kw_only=True):
    name: str
    verdict: Verdict
    message: str = ""
    value: str | None = None  # what was measured
    bound: str | None = None  # what was asked
    dry_run: bool = False
    silent_since: datetime | None = None  # passed once, and cannot be asked since then


class ApprovalStatus(Resource, frozen=True, kw_only=True):
    decision: str  # name of the PromotionDecision
    by: str
    verified: bool = False


class RollbackStatus(Resource, frozen=True, kw_only=True):
    """Set when an attempt goes back."""

    to: str
    move_id: str | None = msgspec.field(default=None, name="moveID")
    reason: str = ""
    message: str = ""
    quarantine: bool = False
    hold: bool = False
    inferred: bool = False  # no ledger entry vouches for `to`: whenUnknown UseArchived chose it
    decision: str | None = None
    by: str | None = None


class AttemptStatus(Resource, frozen=True, kw_only=True):
    id: str
    version: str
    phase: Phase
    started_at: datetime
    phase_started_at: datetime
    origin: Origin = Origin.CANDIDATE
    previous: str | None = None  # where the alias was at the start
    move_id: str | None = msgspec.field(default=None, name="moveID")
    deadline: datetime | None = None
    gates: tuple[GateStatus, ...] = ()
    evidence_digest: str | None = None
    approvals: tuple[ApprovalStatus, ...] = ()
    staged_from: str | None = None  # the stage before Podium moved the candidate to Staging
    templates: str | None = None  # digest of the targets' pod templates when they were changed
    baked_seconds: int = 0  # observed time in Baking
    baked_at: datetime | None = None  # last observation that counted
    candidate_digest: str | None = None  # digest of spec.candidate when the attempt began
    rollback: RollbackStatus | None = None
    reason: str | None = None
    message: str = ""


class TargetStatus(Resource, frozen=True, kw_only=True):
    name: str
    version: str | None = None
    ready: bool = False


class ChampionStatus(Resource, frozen=True, kw_only=True):
    version: str
    since: datetime
    move_id: str | None = msgspec.field(default=None, name="moveID")  # of its last rollout
    targets: tuple[TargetStatus, ...] = ()


class CandidateStatus(Resource, frozen=True, kw_only=True):
    version: str
    since: datetime  # since when it is the candidate


class HoldStatus(Resource, frozen=True, kw_only=True):
    since: datetime
    reason: str
    version: str | None = None  # the version whose failure led to the hold


class QuarantineStatus(Resource, frozen=True, kw_only=True):
    version: str
    reason: str
    since: datetime


class ClaimStatus(Resource, frozen=True, kw_only=True):
    """`seen_at`: since when the registry shows the claim, while it is not confirmed yet."""

    since: datetime
    seen_at: datetime | None = None
    confirmed: bool = False


class PromotionStatus(Resource, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    champion: ChampionStatus | None = None
    candidate: CandidateStatus | None = None
    attempt: AttemptStatus | None = None
    hold: HoldStatus | None = None
    quarantined: tuple[QuarantineStatus, ...] = ()
    claim: ClaimStatus | None = None
    highest_promoted: str | None = None
    history: tuple[LedgerEntry, ...] = ()
    ledger_seq: int = 0
    ledger_head: str | None = None
    ledger_id: str | None = msgspec.field(default=None, name="ledgerID")
    signer: str | None = None  # public key (base64) that signs and is trusted here
    former_signers: tuple[str, ...] = ()  # keys that signed before it; their entries still count
    model_created_at: datetime | None = None  # by MLflow: which model of this name it is about

    @property
    def active(self) -> AttemptStatus | None:
        """The attempt that runs; None when there is none or it has come to its end."""
        attempt = self.attempt
        return None if attempt is None or attempt.phase.terminal else attempt

    @property
    def champion_version(self) -> str | None:
        return self.champion.version if self.champion else None
