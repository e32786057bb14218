"""What one reconcile decides: a status to write, then actions to perform in order."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from podium.api.decision import DecisionOutcome
from podium.api.ledger_entry import LedgerEntry
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus
from podium.api.reasons import Reason
from podium.engine.observation import Problem


@dataclass(frozen=True)
class SetAlias:
    """Points the alias at `to`, if a fresh read shows it at `expect` (or already at `to`)."""

    to: str
    expect: str | None


@dataclass(frozen=True)
class ApplyTarget:
    """Server-side applies what Podium owns in the target's Deployment: the annotations
    podium.dev/model-version and podium.dev/move-id and, in Version mode, the env value."""

    target: str
    version: str
    move_id: str


@dataclass(frozen=True)
class TransitionStage:
    """Moves one version to a stage (archiving no other), then tags it `<stage>-at`."""

    version: str
    to: Stage


@dataclass(frozen=True)
class MirrorEntry:
    """Writes a ledger entry to MLflow: the tag on its version, then the head."""

    entry: LedgerEntry


@dataclass(frozen=True)
class TagVersion:
    """Sets tags of a model version (full keys)."""

    version: str
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WriteClaim:
    """Writes the owner tag of the alias for this promotion."""

    value: str


@dataclass(frozen=True)
class AnswerDecision:
    """Writes the status of a PromotionDecision."""

    name: str
    uid: str
    outcome: DecisionOutcome
    message: str


Action = (
    SetAlias
    | ApplyTarget
    | TransitionStage
    | MirrorEntry
    | TagVersion
    | WriteClaim
    | AnswerDecision
)


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class Event:
    type: EventType
    reason: Reason
    message: str


@dataclass(frozen=True)
class Decision:
    """`status` is written first if it differs from the persisted one; actions follow only from
    what was persisted before this pass. `requeue_after` None: nothing to do until a hint."""

    status: PromotionStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: timedelta | None = None
    problem: Problem | None = None  # why it goes no further now; already told in `status`


@dataclass(frozen=True)
class Needs:
    """What the gatherer must read before `decide`, beyond the cached basics."""

    fresh: bool = False  # read model, targets from the servers, not from the cache
    versions: bool = False  # every version of the model, with tags (and so the ledger)
    pods: bool = False  # the targets' pods
    gates_for: str | None = None  # evaluate spec.gates for this version
