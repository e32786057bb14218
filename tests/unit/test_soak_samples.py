"""How a soak is planned, and how it judges whether memory is flat."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults.soak.outages import changed_while_away, plan
from tests.faults.soak.samples import Sample, flatness, of_last_process, rates
from tests.faults.soak.soak import Report, not_flat
from tests.faults.soak.town import Quarter, Town
from tests.faults.soak.watcher import Watcher
from tests.faults.world import State, World

FIRST = Sample(0.0, 1, 60.0, 30, 8, 1.0, 0.0, 0.0, 0.0)


def life(growth_an_hour: float, minutes: int = 20, pid: int = 1) -> list[Sample]:
    return [
        replace(FIRST, at=at, pid=pid, rss=60.0 + growth_an_hour * at / 3600, passes=at * 2)
        for at in range(0, minutes * 60, 5)
    ]


@pytest.mark.parametrize(("growth", "flat"), [(0.0, True), (2.0, True), (20.0, False)])
def test_memory_that_grows_is_noticed(growth: float, flat: bool) -> None:
    report = Report(1200, 1, samples=life(growth))
    assert (not_flat(report) == []) is flat
    assert flatness(report.samples, "rss").slope == pytest.approx(growth)


@pytest.mark.parametrize(("growth", "flat"), [(0.0, True), (20.0, False)])
def test_what_goes_with_connections_and_comes_back_is_no_growth(growth: float, flat: bool) -> None:
    """As the API server is restarted in the middle of the life."""
    dipped = [
        replace(each, rss=each.rss - 4.0) if 600 <= each.at < 700 else each for each in life(growth)
    ]
    assert (not_flat(Report(1200, 1, samples=dipped)) == []) is flat


def test_descriptors_that_grow_are_noticed() -> None:
    leaking = [replace(each, descriptors=30 + int(each.at) // 10) for each in life(0.0)]
    (said,) = not_flat(Report(1200, 1, samples=leaking))
    assert said.startswith("descriptors grow")


def test_only_the_last_process_is_judged() -> None:
    samples = [*life(500.0, pid=1), *life(0.0, pid=2)]
    assert {each.pid for each in of_last_process(samples)} == {2}
    assert not_flat(Report(1200, 1, samples=samples)) == []
    assert rates(of_last_process(samples))["passes"] == pytest.approx(2.0)


@pytest.mark.parametrize("seconds", [60.0, 1800.0])
def test_everything_is_restarted_and_the_operator_lives_for_the_last_two_thirds(
    seconds: float,
) -> None:
    planned = plan(seconds, seed=1)
    assert {each.what for each in planned} == {"operator", "mlflow", "api server"}
    assert max(each.at for each in planned if each.what == "operator") < seconds / 3
    assert max(each.at for each in planned) < seconds
    assert planned == plan(seconds, seed=1)


@pytest.mark.parametrize("given_up", [False, True])
def test_a_model_that_is_given_up_while_it_is_looked_at_is_not_judged(given_up: bool) -> None:
    quarter = Quarter("p", cast(World, None), False, False, False)
    quarters = [quarter]

    def torn(_: Quarter) -> State:
        """The alias of before the model was deleted, the versions of after."""
        if given_up:
            quarters.clear()
        model: dict[str, Any] = {"aliases": [{"alias": "champion", "version": "2"}]}
        return State(promotion={}, deployments={}, pods=(), model=model, versions={})

    watcher = Watcher(cast(Town, SimpleNamespace(quarters=quarters, state=torn)))
    watcher.ledger(quarter)
    assert bool(watcher.violations) is not given_up
    if not given_up:
        assert "I6: the alias is at 2 without an intent" in watcher.violations[0]


def test_a_deployment_that_changes_while_mlflow_is_away_is_told() -> None:
    def deployment(uid: str, version: str) -> dict[str, Any]:
        return {"metadata": {"uid": uid}, "spec": {"template": {"version": version}}}

    before = {name: deployment(name, "1") for name in ("same", "changed", "anew", "gone")}
    after = {
        "same": deployment("same", "1"),
        "changed": deployment("changed", "2"),
        "anew": deployment("another", "2"),
        "new": deployment("new", "2"),
    }
    said = "I4: Deployment changed was changed while MLflow was away"
    assert changed_while_away(before, after) == [said]
