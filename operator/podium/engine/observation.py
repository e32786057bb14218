"""What one reconcile sees: everything a decision may depend on, gathered beforehand.

Values only. The gatherer in `runtime` fills them from MLflow, Kubernetes and the cache;
nothing here reads anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from podium.api.decision import DecisionAction, PromotionDecision
from podium.api.ledger_entry import LedgerEntry
from podium.api.promotion import ModelPromotion, ModelPromotionSpec, Stage
from podium.api.promotion_status import AttemptStatus, GateStatus, PromotionStatus
from podium.api.reasons import Reason


class ProblemKind(StrEnum):
    """How to go on after something went wrong (after Flux's internal/error)."""

    WAITING = "Waiting"  # something outside will change: requeue on a hint, or slowly
    STALLED = "Stalled"  # a person must act: condition and Event once, no hot retries
    TRANSIENT = "Transient"  # retry with backoff and jitter


@dataclass(frozen=True)
class Problem:
    """What went wrong, for people: `message` says what happened, to what, what to do next."""

    kind: ProblemKind
    reason: Reason
    message: str


@dataclass(frozen=True)
class VersionState:
    """A model version as MLflow has it."""

    version: str
    stage: Stage
    ready: bool  # status READY
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    run_id: str | None = None
    authors: frozenset[str] | None = frozenset()  # who logged the run; None: the run is gone

    @property
    def number(self) -> int:
        return int(self.version)


@dataclass(frozen=True)
class ModelState:
    """The registered model. `versions` is complete when `complete` is true; else it holds at
    least the champion, the candidate and the newest version of each stage."""

    aliases: Mapping[str, str]
    tags: Mapping[str, str]
    versions: Mapping[str, VersionState]
    complete: bool = False
    stages_supported: bool = True
    aliases_supported: bool = True
    created_at: datetime | None = None  # by the server's clock; None: it does not say


@dataclass(frozen=True)
class PodState:
    """A pod of a target's Deployment (by its selector)."""

    name: str
    move_id: str | None  # its annotation podium.dev/move-id
    ready: bool
    terminating: bool  # has a deletionTimestamp
    started: bool  # the target's container runs or has run
    restarts: int  # of the target's container
    exits: int  # how often it has ended: its restarts, and one more while it does not run again
    failed: bool  # it exited with an error (now or before its last restart) or crash-loops
    container_started_at: datetime | None  # of the container that runs now
    failed_run_began: datetime | None = None  # start of the run that failed last
    ready_since: datetime | None = None  # lastTransitionTime of the Ready condition, if True
    ready_lost_at: datetime | None = None  # lastTransitionTime of Ready, if False after start
    disrupted: bool = False  # evicted, preempted, drained, node lost: not the version's fault
    trouble: str | None = None  # unschedulable, ImagePullBackOff, ...: not the version's fault
    exit_message: str | None = None  # why the container last failed


@dataclass(frozen=True)
class TargetState:
    """A Deployment as it is now. `problem` is set when it cannot be read or has no such
    container; then the other fields have no meaning."""

    name: str  # spec.targets[].name
    deployment: str
    problem: Problem | None = None
    model_version: str | None = None  # pod template annotation podium.dev/model-version
    move_id: str | None = None  # pod template annotation podium.dev/move-id
    env_value: str | None = None  # of modelSource.envVar in the container, Version mode
    template: str = ""  # digest of the pod template without what Podium owns in it
    observed: bool = True  # status.observedGeneration >= metadata.generation
    desired: int = 1  # spec.replicas
    replicas: int = 0  # status.*
    updated: int = 0
    ready: int = 0
    available: int = 0
    progress_deadline_exceeded: bool = False  # condition Progressing False with that reason
    trouble: str | None = None  # why its controller makes no pods: quota, admission, ...
    paused: bool = False
    recreate: bool = False  # strategy Recreate
    autoscaled: bool = False  # an HPA points at it
    pods: tuple[PodState, ...] | None = None  # None: not asked for (see `Needs`)

    @property
    def settled(self) -> bool:
        """Whether the Deployment's own controller has finished: all pods new and available."""
        return (
            self.problem is None
            and self.observed
            and self.updated >= self.desired
            and self.available >= self.desired
            and self.replicas == self.updated
        )


@dataclass(frozen=True)
class Claim:
    """The tag podium.dev/owner/<alias hash>: who moves this alias."""

    cluster: str
    namespace: str
    name: str
    since: datetime
    released: bool = False


@dataclass(frozen=True)
class LedgerState:
    """What the registry has of the ledger: parsed, not yet trusted (see `engine.ledger`).

    `entries` in ascending seq; complete if `complete`. `head_*` is the registered-model tag.
    """

    entries: tuple[LedgerEntry, ...] = ()
    complete: bool = False
    head_seq: int = 0
    head_hash: str | None = None
    head_signer: str | None = None
    ledger_id: str | None = None  # the hash of its first entry, since the model was created
    bad_signatures: frozenset[LedgerEntry] = frozenset()  # whose signature does not verify
    signer: str = ""  # the public key (base64) of this operator
    former_names: Mapping[str, int] = field(default_factory=dict)  # and the last entry under each


@dataclass(frozen=True)
class FailedTry:
    """A change of a target that was refused, or of which no answer came."""

    target: str
    began: datetime  # the pass that tried it
    problem: Problem


@dataclass(frozen=True)
class Observation:
    """Everything that `decide` may look at, besides the time."""

    promotion: ModelPromotion
    cluster_id: str  # UID of the namespace kube-system
    operator_version: str
    registry_problem: Problem | None = None  # no model state because of it
    registry_back_at: datetime | None = None  # it answers since then, as its Ready condition says
    model: ModelState | None = None  # None with registry_problem None: the model does not exist
    targets: tuple[TargetState, ...] = ()
    decisions: tuple[PromotionDecision, ...] = ()  # without an outcome, oldest first
    gates: tuple[GateStatus, ...] = ()  # evaluated now for `Needs.gates_for`
    gate_inputs: str | None = None  # digest of what these verdicts depended on, timed ones apart
    ledger: LedgerState = LedgerState()
    claim: Claim | None = None
    claim_owner_gone: bool = False  # the claimant is of this cluster and does not exist there
    staging_taken: bool = False  # another promotion holds stage Staging for this model
    rival: Problem | None = None  # an older promotion has the same alias, stage or Deployment
    action_problem: Problem | None = None  # what the last pass's action met with
    failed_try: FailedTry | None = None  # the last one of this process
    unread_since: datetime | None = None  # it asks for a target again and again, without an answer
    unsettled: bool = False  # a write timed out and may still take effect: look, do not build
    rollout_slot: bool = True  # fewer rollouts run than --max-rollouts, or this is one of them
    candidate_since: datetime | None = None  # by the ledger of the alias that is the candidate
    poll_interval: timedelta = timedelta(seconds=15)

    @property
    def spec(self) -> ModelPromotionSpec:
        return self.promotion.spec

    @property
    def status(self) -> PromotionStatus:
        return self.promotion.status

    @property
    def attempt(self) -> AttemptStatus | None:
        """The attempt that runs."""
        return self.status.active

    @property
    def alias(self) -> str | None:
        """The version that the alias points at in MLflow now."""
        return self.model.aliases.get(self.spec.alias) if self.model else None

    @property
    def unread(self) -> bool:
        """Whether the API server gave no answer about a target."""
        problems = (target.problem for target in self.targets)
        return any(it is not None and it.kind is ProblemKind.TRANSIENT for it in problems)

    def concerns(self, said: PromotionDecision) -> bool:
        """Whether a decision is about this promotion, not an earlier one of its name."""
        return said.spec.promotion_ref.uid in (None, self.promotion.metadata.uid)

    @property
    def released(self) -> bool:
        """Whether somebody says Release, of no version: what stands in the way is accepted."""
        return any(
            said.spec.action is DecisionAction.RELEASE
            and said.spec.version is None
            and self.concerns(said)
            for said in self.decisions
        )

    def version(self, version: str | None) -> VersionState | None:
        return self.model.versions.get(version) if self.model and version else None
