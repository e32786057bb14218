"""The cache: what is news, its indexes, and which promotions stand against each other."""

from collections.abc import Mapping
from typing import cast

import pytest

from podium.api.reasons import Reason
from podium.runtime.cache import Cache, Watched
from podium.runtime.keys import Name
from podium.runtime.registries import Registries
from podium.runtime.rivals import rival_of, staging_taken

Raw = Mapping[str, object]


def promotion(
    name: str,
    version: int = 1,
    *,
    namespace: str = "a",
    created: str = "2026-11-21T12:00:00Z",
    status: Raw | None = None,
    **spec: object,
) -> Raw:
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": created,
            "managedFields": [{"manager": "x" * 1000}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000},
        },
        "spec": {"model": "churn", **spec},
        "status": status or {},
    }


def targets(*deployments: str) -> list[Raw]:
    return [{"name": d, "deployment": {"name": d}} for d in deployments]


class Servers:
    """Which server each namespace's ModelRegistry `default` names."""

    def __init__(self, **servers: str) -> None:
        self._servers = servers

    def server_of(self, name: Name) -> tuple[str, str | None] | None:
        server = self._servers.get(name.namespace)
        return (server, None) if server else None


def cached(*raws: Raw) -> Cache:
    cache = Cache()
    for raw in raws:
        cache.put_promotion(raw)
    return cache


def test_only_what_is_newer_is_news() -> None:
    cache = cached(promotion("p", 9))
    assert not cache.put_promotion(promotion("p", 9))
    assert not cache.put_promotion(promotion("p", 8))
    assert cache.put_promotion(promotion("p", 10))  # as numbers: "10" < "9" as text


def test_what_is_listed_counts_though_it_is_older() -> None:
    """etcd was restored from a backup: the later state, which is no more, was believed for ever."""
    cache = cached(promotion("p", 9))
    assert cache.put_promotion(promotion("p", 4), listed=True)
    assert not cache.put_promotion(promotion("p", 4), listed=True)
    assert cache.promotions[Name("a", "p")].resource_version == "4"
    registry: Raw = {"metadata": {**cast(Raw, promotion("r", 9)["metadata"])}, "spec": {}}
    older: Raw = {"metadata": {**cast(Raw, promotion("r", 4)["metadata"])}, "spec": {"x": "y"}}
    assert cache.put_registry(registry)
    assert not cache.put_registry(older)
    assert cache.put_registry(older, listed=True)


def test_what_no_decision_looks_at_is_not_kept() -> None:
    cache = cached(promotion("p"))
    entry = cache.promotions[Name("a", "p")]
    assert len(entry.packed) < 300
    assert entry.parse().spec.model == "churn"


def test_a_deletion_of_an_earlier_object_of_that_name_is_passed_over() -> None:
    cache = cached(promotion("p"))
    assert cache.remove_promotion(Name("a", "p"), "uid-of-before") is None
    assert cache.remove_promotion(Name("a", "p"), "uid-p") is not None
    assert not cache.promotions
    assert list(cache.of_model("churn")) == []


def test_a_status_that_was_written_leaves_the_deployment_known() -> None:
    """Each pass after a write read it anew, and then once more because it was to be fresh."""
    cache = Cache()
    cache.put_promotion(promotion("p", 1, targets=targets("api")))
    api = {"metadata": {"namespace": "a", "name": "api"}, "spec": {"replicas": 2}}
    cache.put_deployment(api)
    cache.put_promotion(promotion("p", 2, targets=targets("api")))
    assert cache.deployment(Name("a", "api")) is not None
    cache.put_promotion(promotion("p", 3, targets=targets("other")))
    assert cache.deployment(Name("a", "api")) is None


def test_deployments_are_kept_only_while_they_are_targets() -> None:
    cache = cached(promotion("p", targets=targets("api")))
    api, other = ({"metadata": {"namespace": "a", "name": n}} for n in ("api", "other"))
    assert cache.put_deployment(api)
    assert cache.put_deployment(other), "its promotion may be on a later page"
    cache.forget_strangers()
    assert cache.known(Watched.DEPLOYMENT) == {Name("a", "api")}
    assert not cache.put_deployment(other)
    cache.put_promotion(promotion("p", 2, targets=targets("web")))
    assert cache.deployment(Name("a", "api")) is None


def test_phases_and_rollouts_are_counted() -> None:
    attempt = {
        "id": "1",
        "version": "1",
        "phase": "Verifying",
        "startedAt": "2026-11-21T12:00:00Z",
        "phaseStartedAt": "2026-11-21T12:00:00Z",
    }
    busy = promotion("p", status={"attempt": attempt}, targets=targets("api"))
    cache = cached(busy, promotion("q"))
    assert cache.phases["Verifying"] == 1
    assert cache.rolling_besides(Name("a", "q")) == 1
    assert cache.rolling_besides(Name("a", "p")) == 0
    cache.put_promotion(promotion("p", 2))
    assert cache.phases["Verifying"] == 0
    assert cache.rolling_besides(Name("a", "q")) == 0


def test_what_cannot_be_read_is_kept_as_a_problem() -> None:
    cache = cached(promotion("p", alias=7))
    entry = cache.promotions[Name("a", "p")]
    assert "alias" in str(entry.problem)


LATER = "2026-11-21T13:00:00Z"
RIVALS = {
    "same alias": (promotion("q"), Reason.ALIAS_CLAIMED),
    "same stage, another alias": (
        promotion("q", alias="live", stage="Production"),
        Reason.STAGE_CLAIMED,
    ),
    "same Deployment": (
        promotion("q", model="other", targets=targets("api")),
        Reason.TARGET_CLAIMED,
    ),
    "another alias without a stage": (promotion("q", alias="live"), None),
    "same alias on the same server, by another namespace": (
        promotion("q", namespace="b"),
        Reason.ALIAS_CLAIMED,
    ),
    "same names on another server": (promotion("q", namespace="c"), None),
    "a younger one": (promotion("q", created="2026-11-21T14:00:00Z"), None),
}


@pytest.mark.parametrize(("other", "reason"), RIVALS.values(), ids=RIVALS)
def test_rivals(other: Raw, reason: Reason | None) -> None:
    own = promotion("p", created=LATER, targets=targets("api"))
    servers = cast(Registries, Servers(a="http://one", b="http://one", c="http://two"))
    problem = rival_of(Name("a", "p"), cached(own, other), servers)
    assert (problem.reason if problem else None) is reason
    if problem:
        assert "/q" in problem.message


def test_of_two_made_in_the_same_second_exactly_one_yields() -> None:
    cache = cached(promotion("p"), promotion("q"))
    servers = cast(Registries, Servers(a="http://one"))
    yields = [rival_of(Name("a", n), cache, servers) is not None for n in ("p", "q")]
    assert yields == [False, True]


def test_staging_is_taken_also_by_a_younger_one() -> None:
    staging = promotion("s", alias="staging", stage="Staging", created=LATER)
    servers = cast(Registries, Servers(a="http://one"))
    cache = cached(promotion("p"), staging)
    assert staging_taken(Name("a", "p"), cache, servers)
    assert not staging_taken(Name("a", "s"), cache, servers)


def test_decisions_oldest_first_until_they_are_answered() -> None:
    def decision(name: str, at: str, **status: str) -> Raw:
        meta = {"namespace": "a", "name": name, "uid": name, "creationTimestamp": at}
        return {
            "metadata": meta,
            "spec": {"promotionRef": {"name": "p"}, "action": "Hold"},
            "status": status,
        }

    cache = Cache()
    assert cache.put_decision(decision("x", "2026-11-21T12:00:01Z")) == Name("a", "p")
    cache.put_decision(decision("y", "2026-11-21T12:00:00Z"))
    assert [d.metadata.name for d in cache.decisions(Name("a", "p"))] == ["y", "x"]
    answered = decision("y", "2026-11-21T12:00:00Z", outcome="Applied", message="")
    assert cache.put_decision(answered) is None
    cache.remove_decision(Name("a", "x"))
    assert cache.decisions(Name("a", "p")) == ()
