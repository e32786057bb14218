"""ModelPromotion: the standing rule for one alias of one registered model."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from podium.api.meta import ObjectMeta
from podium.api.promotion_status import PromotionStatus
from podium.api.values import Duration, Resource


class Stage(StrEnum):
    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


class RegistryRef(Resource, frozen=True, kw_only=True):
    name: str = "default"


class Latest(Resource, frozen=True, kw_only=True):
    match_tags: Mapping[str, str] = {}


class CandidateSelector(Resource, frozen=True, kw_only=True):
    """At most one is set. None at all: whoever moves the alias in MLflow decides."""

    latest: Latest | None = None
    version: str | None = None
    alias: str | None = None
    stage: Stage | None = None


class Supersede(StrEnum):
    ALWAYS = "Always"
    BEFORE_APPROVAL = "BeforeApproval"
    NEVER = "Never"


class Bound(Resource, frozen=True, kw_only=True):
    min: Decimal | None = None
    max: Decimal | None = None


class Goal(StrEnum):
    MAXIMIZE = "Maximize"
    MINIMIZE = "Minimize"


class Compare(Resource, frozen=True, kw_only=True):
    """Better than the champion, or worse by no more than `tolerance` (absolute)."""

    to: str = "Champion"
    goal: Goal
    tolerance: Decimal = Decimal(0)


class MetricSource(StrEnum):
    RUN = "Run"  # last logged value of the version's source run
    LOGGED_MODEL = "LoggedModel"  # the LoggedModel (models:/m-<id>) that the version was made of


class MetricGate(Resource, frozen=True, kw_only=True):
    """Exactly one of `bound` and `compare`. `dataset` chooses among a LoggedModel's values."""

    key: str
    source: MetricSource = MetricSource.RUN
    dataset: str | None = None  # name or digest of the evaluation dataset
    bound: Bound | None = None
    compare: Compare | None = None


class TagGate(Resource, frozen=True, kw_only=True):
    """A tag of the model version: any of `values`, or merely present when none are given."""

    key: str
    values: tuple[str, ...] = ()


class MinAgeGate(Resource, frozen=True, kw_only=True):
    duration: Duration


class Gate(Resource, frozen=True, kw_only=True):
    """Exactly one kind is set."""

    name: str
    metric: MetricGate | None = None
    tag: TagGate | None = None
    min_age: MinAgeGate | None = None
    dry_run: bool = False
    deadline: Duration = Duration(600)  # how long Pending may last before it is Fail


class Approval(Resource, frozen=True, kw_only=True):
    required: int = 1
    exclude_authors: bool = True
    expire_after: Duration = Duration(72 * 3600)


class DeploymentRef(Resource, frozen=True, kw_only=True):
    name: str
    container: str | None = None  # absent: the only container


class ModelSourceType(StrEnum):
    ALIAS = "Alias"
    VERSION = "Version"


class ModelSource(Resource, frozen=True, kw_only=True):
    type: ModelSourceType = ModelSourceType.ALIAS
    env_var: str = "MODEL_URI"
    takeover: bool = False


class Target(Resource, frozen=True, kw_only=True):
    name: str
    deployment: DeploymentRef
    model_source: ModelSource = ModelSource()


class Rollout(Resource, frozen=True, kw_only=True):
    progress_deadline: Duration = Duration(600)


class WhenUnknown(StrEnum):
    HOLD = "Hold"
    USE_ARCHIVED = "UseArchived"


class Rollback(Resource, frozen=True, kw_only=True):
    automatic: bool = True
    bake_duration: Duration = Duration(0)
    when_unknown: WhenUnknown = WhenUnknown.HOLD


class AliasDriftPolicy(StrEnum):
    REVERT = "Revert"
    ADOPT = "Adopt"
    HOLD = "Hold"
    ALERT = "Alert"


class ModelPromotionSpec(Resource, frozen=True, kw_only=True):
    model: str
    registry_ref: RegistryRef = RegistryRef()
    alias: str = "champion"
    candidate: CandidateSelector | None = None
    supersede: Supersede = Supersede.BEFORE_APPROVAL
    gates: tuple[Gate, ...] = ()
    approval: Approval | None = None
    targets: tuple[Target, ...] = ()
    rollout: Rollout = Rollout()
    rollback: Rollback = Rollback()
    stage_field: Stage | None = msgspec.field(default=None, name="stage")
    drift_policy_field: AliasDriftPolicy | None = msgspec.field(
        default=None, name="aliasDriftPolicy"
    )
    suspend: bool = False
    history_limit: int = 10

    @property
    def stage(self) -> Stage:
        """The MLflow stage that this promotion's champion holds; Stage.NONE: it holds none."""
        if self.stage_field is not None:
            return self.stage_field
        return Stage.PRODUCTION if self.alias == "champion" else Stage.NONE

    @property
    def alias_drift_policy(self) -> AliasDriftPolicy:
        if self.drift_policy_field is not None:
            return self.drift_policy_field
        return AliasDriftPolicy.REVERT if self.candidate else AliasDriftPolicy.ADOPT

    @property
    def waits_for_approval(self) -> bool:
        return self.approval is not None and self.approval.required > 0


class ModelPromotion(Resource, frozen=True, kw_only=True):
    metadata: ObjectMeta
    spec: ModelPromotionSpec
    status: PromotionStatus = PromotionStatus()
