"""One module per kind of serving target, behind one small Protocol."""

from collections.abc import Sequence
from typing import Protocol

from podium.api.promotion import Target
from podium.cluster.errors import OwnedField
from podium.cluster.resources import Raw
from podium.engine.observation import Problem, TargetState
from podium.targets import deployment
from podium.targets.deployment import (
    apply_body,
    autoscaled,
    conflict_policy,
    field_manager,
    observe,
)


class ServingTarget(Protocol):
    """What a module of this package offers: pure functions over objects as the API gives them."""

    def observe(
        self, target: Target, deployment: Raw | None, pods: Sequence[Raw] | None, autoscaled: bool
    ) -> TargetState: ...

    def apply_body(
        self, target: Target, deployment: Raw, *, model: str, version: str, move_id: str
    ) -> Raw | Problem: ...

    def conflict_policy(
        self, target: Target, conflicts: Sequence[OwnedField]
    ) -> Problem | None: ...


DEPLOYMENT: ServingTarget = deployment

__all__ = [
    "DEPLOYMENT",
    "ServingTarget",
    "apply_body",
    "autoscaled",
    "conflict_policy",
    "deployment",
    "field_manager",
    "observe",
]
