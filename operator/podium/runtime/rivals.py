"""Which other promotions of this cluster stand against one: the same alias, stage or Deployment.

The older of two wins (creation time, then namespace and name). Across clusters the claim in
MLflow decides, not this.
"""

from collections.abc import Iterable

from podium.api.promotion import Stage
from podium.api.reasons import Reason
from podium.engine.observation import Problem, ProblemKind
from podium.runtime.cache import Cache, CachedPromotion
from podium.runtime.keys import Name
from podium.runtime.registries import Registries


def rival_of(name: Name, cache: Cache, registries: Registries) -> Problem | None:
    """The reason to stand back for an older promotion, naming it."""
    own = cache.promotions.get(name)
    if own is None:
        return None
    for other, entry in _of_same_model(name, own, cache, registries):
        if entry.age > own.age:
            continue
        if entry.alias == own.alias:
            return _stalled(Reason.ALIAS_CLAIMED, other, f"moves alias {own.alias} of {own.model}")
        if entry.stage is own.stage is not Stage.NONE:
            return _stalled(
                Reason.STAGE_CLAIMED, other, f"holds stage {own.stage} of {own.model} (spec.stage)"
            )
    for target in sorted(own.targets):
        for other in sorted(cache.of_target(Name(name.namespace, target))):
            if other != name and cache.promotions[other].age < own.age:
                return _stalled(Reason.TARGET_CLAIMED, other, f"changes Deployment {target}")
    return None


def staging_taken(name: Name, cache: Cache, registries: Registries) -> bool:
    """Whether another promotion holds stage Staging for the model."""
    own = cache.promotions.get(name)
    return own is not None and any(
        entry.stage is Stage.STAGING for _, entry in _of_same_model(name, own, cache, registries)
    )


def _of_same_model(
    name: Name, own: CachedPromotion, cache: Cache, registries: Registries
) -> Iterable[tuple[Name, CachedPromotion]]:
    """Others for the same model of the same server and workspace."""
    server = registries.server_of(own.registry) if own.registry else None
    for other in sorted(cache.of_model(own.model)):
        entry = cache.promotions[other]
        if other == name or entry.registry is None:
            continue
        same = entry.registry == own.registry
        if same or (server is not None and registries.server_of(entry.registry) == server):
            yield other, entry


def _stalled(reason: Reason, other: Name, does: str) -> Problem:
    return Problem(
        ProblemKind.STALLED,
        reason,
        f"ModelPromotion {other} is older and {does}; delete one of the two, or change it",
    )
