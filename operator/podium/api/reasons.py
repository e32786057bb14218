"""Condition types, and every reason that a condition or an Event of Podium can carry.

A reason is promised to users: it is documented in docs/reasons.md, which a test compares
with this file. The comment beside each says when somebody sees it.
"""

from enum import StrEnum


class ConditionType(StrEnum):
    """The kstatus conditions of a ModelPromotion, and the one more that it has."""

    READY = "Ready"  # the champion is served everywhere as wanted
    RECONCILING = "Reconciling"  # targets are being changed now
    STALLED = "Stalled"  # a person must act
    ATTEMPT_ACTIVE = "AttemptActive"  # an attempt runs; its reason is the phase


class Reason(StrEnum):
    """Why a condition has its value."""

    # Going well
    CHAMPION_SERVED = "ChampionServed"  # every target serves the champion
    NO_ATTEMPT = "NoAttempt"  # nothing is being tried
    UP_TO_DATE = "UpToDate"  # no target is being changed
    ROLLING_OUT = "RollingOut"  # targets are being changed to the champion
    BAKING = "Baking"  # the new champion is served and is being watched
    SUSPENDED = "Suspended"  # spec.suspend is true: no step forward
    CONNECTED = "Connected"  # ModelRegistry: the server answered and was understood

    # Waiting: something outside will change
    CLAIMING = "Claiming"  # the alias is being claimed; a second writer would show within a poll
    NO_CHAMPION = "NoChampion"  # the alias points at no version yet
    NO_CANDIDATE = "NoCandidate"  # the selector finds no READY version
    MODEL_NOT_FOUND = "ModelNotFound"  # the registered model does not exist (yet)
    VERSION_NOT_FOUND = "VersionNotFound"  # the version was deleted, or never existed
    VERSION_NOT_READY = "VersionNotReady"  # the version is not READY in MLflow
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"  # MLflow does not answer: nothing changes
    REGISTRY_THROTTLED = "RegistryThrottled"  # MLflow answers 429
    REGISTRY_NOT_FOUND = "RegistryNotFound"  # no ModelRegistry of that name in this namespace
    SECRET_NOT_FOUND = "SecretNotFound"  # a Secret (or a key in it) of the ModelRegistry is missing  # noqa: S105
    TARGET_NOT_FOUND = "TargetNotFound"  # the Deployment does not exist (yet)
    TARGET_NOT_READY = "TargetNotReady"  # the Deployment has fewer ready pods than it wants
    ROLLOUT_LIMIT = "RolloutLimit"  # as many rollouts run at once as --max-rollouts allows
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"  # the API server refuses or fails for now
    ALIASES_UNSUPPORTED = "AliasesUnsupported"  # MLflow < 2.3: only modelSource Version works

    # Stalled: a person must act
    INVALID_SPEC = "InvalidSpec"  # the object does not have the promised form; names the field
    NOT_SUPPORTED = "NotSupported"  # a field that this release does not act on
    MODEL_NOT_ALLOWED = "ModelNotAllowed"  # ModelRegistry.spec.modelPatterns leave the model out
    UNAUTHENTICATED = "Unauthenticated"  # MLflow answers 401: wrong or missing credentials
    REGISTRY_FORBIDDEN = "RegistryForbidden"  # MLflow answers 403: the user lacks EDIT
    HOST_NOT_ALLOWED = "HostNotAllowed"  # MLflow's host check refuses the name in trackingURI
    NOT_MLFLOW = "NotMLflow"  # something else answers at trackingURI, for example a login page
    REGISTRY_REFUSED = "RegistryRefused"  # MLflow refuses a request; the message has its words
    CONTAINER_NOT_FOUND = "ContainerNotFound"  # the Deployment has no container of that name
    FORBIDDEN = "Forbidden"  # RBAC does not let Podium read or change an object
    FIELD_CONFLICT = "FieldConflict"  # another field manager owns a field that Podium would set
    ALIAS_CLAIMED = "AliasClaimed"  # another promotion (here or in another cluster) owns the alias
    STAGE_CLAIMED = "StageClaimed"  # another promotion holds this stage for the model
    TARGET_CLAIMED = "TargetClaimed"  # another promotion changes the same Deployment
    LEDGER_BROKEN = "LedgerBroken"  # the ledger does not verify, or somebody unknown signed it
    ALIAS_DRIFT = "AliasDrift"  # somebody moved the alias; policy Hold or Alert leaves it so
    ALIAS_MISSING = "AliasMissing"  # somebody deleted the alias; policy Adopt has nothing to follow
    NO_PREVIOUS_CHAMPION = "NoPreviousChampion"  # a version failed, nothing to go back to
    ROLLBACK_FAILED = "RollbackFailed"  # the version rolled back to does not become ready either
    HELD = "Held"  # takes no new candidate until a Release

    # The phases of an attempt, as the reason of AttemptActive (others stand elsewhere here)
    VALIDATING = "Validating"  # gates are evaluated
    PROMOTING = "Promoting"  # the alias moves and the targets follow
    VERIFYING = "Verifying"  # the targets roll out
    ROLLING_BACK = "RollingBack"  # the last good version becomes the champion again
    REJECTED = "Rejected"  # a gate or a person refused the version
    EXPIRED = "Expired"  # an approval or an input did not come in time
    SUPERSEDED = "Superseded"  # something newer, or a change of the selector, ended the attempt

    # How an attempt came to its end, and Events on the way
    GATE_FAILED = "GateFailed"  # a gate said Fail
    GATE_PENDING = "GatePending"  # a gate waits for its input
    AWAITING_APPROVAL = "AwaitingApproval"  # gates passed; approvals are missing
    APPROVED = "Approved"  # the quorum agreed
    REJECTED_BY_DECISION = "RejectedByDecision"  # a person said Reject
    APPROVAL_EXPIRED = "ApprovalExpired"  # approval.expireAfter passed
    NEWER_CANDIDATE = "NewerCandidate"  # superseded by a newer candidate
    CANDIDATE_CHANGED = "CandidateChanged"  # the selector no longer points at the version
    CANDIDATE_BLOCKED = "CandidateBlocked"  # rejected, rolled back or quarantined: not tried again
    ALIAS_TAKEN = "AliasTaken"  # somebody moved the alias in mid-attempt
    PROMOTED = "Promoted"  # the version is the champion and is served
    ADOPTED = "Adopted"  # Podium took over an alias that already pointed at a version
    ATTEMPT_STARTED = "AttemptStarted"  # a candidate is tried
    ALIAS_REVERTED = "AliasReverted"  # somebody moved the alias, Podium moved it back
    ROLLED_BACK = "RolledBack"  # the last good version is the champion again
    ROLLBACK_BY_DECISION = "RollbackByDecision"  # a person said Rollback
    CONTAINER_FAILED = "ContainerFailed"  # a container of the version started and failed
    NOT_READY_IN_TIME = "NotReadyInTime"  # started, but was not ready at rollout.progressDeadline
    PROGRESS_DEADLINE = "ProgressDeadlineExceeded"  # no blame: quota, scheduling, image, eviction
    TEMPLATE_CHANGED = "TemplateChanged"  # the user changed the pod template meanwhile
    READINESS_LOST = "ReadinessLost"  # a pod of this move lost readiness during bake
    CONTAINER_RESTARTED = "ContainerRestarted"  # a container of this move restarted during bake
    QUARANTINED = "Quarantined"  # no automatic path promotes the version again
    RELEASED = "Released"  # a person lifted a hold or a quarantine
    HELD_BY_DECISION = "HeldByDecision"  # a person said Hold
    RETRIED = "Retried"  # a person said Retry
    MODEL_RECREATED = "ModelRecreated"  # deleted and created again under its name: all begins anew
    RESTORED = "Restored"  # status was gone; it was read back from the ledger
    NO_DESTINATION = "NoDestination"  # a rollback found no version to go to
    UNSAFE_TARGET = "UnsafeTarget"  # Recreate, one replica, paused, HPA in Alias mode
    DECISION_APPLIED = "DecisionApplied"  # a PromotionDecision was carried out
    DECISION_REFUSED = "DecisionRefused"  # a PromotionDecision does not fit; its status says why
