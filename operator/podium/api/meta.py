"""What Podium uses of an object's metadata, and conditions as Kubernetes defines them."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from podium.api.values import Resource


class ObjectMeta(Resource, frozen=True, kw_only=True):
    name: str
    namespace: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    annotations: Mapping[str, str] = {}


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """metav1.Condition. Podium writes a ConditionType and a Reason; it reads any words, so that
    what another release wrote makes no object unreadable."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int = 0
