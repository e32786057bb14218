"""The conditions as a whole: what `kubectl get mp` answers at a glance."""

from dataclasses import replace

import pytest
from msgspec import structs

from podium.api.decision import DecisionAction
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.api.reasons import Reason
from podium.api.values import read, write
from podium.engine.decide import decide
from podium.engine.observation import Problem, ProblemKind
from tests.unit.engine.iris import grown, world


def test_the_reason_at_a_glance_is_what_is_in_the_way() -> None:
    w = grown()
    assert w.condition("Stalled") == ("False", "ChampionServed")
    (pod,) = w.deployments["api"].pods
    pod.ready = False
    w.step()
    assert w.condition("Ready") == ("False", "TargetNotReady")
    assert w.condition("Stalled") == ("False", "TargetNotReady")


def test_a_reason_of_another_release_makes_no_status_unreadable() -> None:
    w = grown()
    raw = write(w.status)
    raw["conditions"][0]["reason"] = "SomethingThatWeSaidOnce"
    w.status = read(PromotionStatus, raw, "status")
    w.step()
    assert w.condition("Ready") == ("True", "ChampionServed")


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        (ProblemKind.STALLED, Reason.UNAUTHENTICATED, 1),
        (ProblemKind.TRANSIENT, Reason.REGISTRY_UNAVAILABLE, 1),
        (ProblemKind.WAITING, Reason.REGISTRY_NOT_FOUND, 1),
        (ProblemKind.WAITING, Reason.CLAIMING, 0),
    ],
    ids=lambda value: str(value),
)
def test_what_comes_into_the_way_is_one_event(kind: ProblemKind, reason: Reason, told: int) -> None:
    w = grown()
    for times in (1, 2):
        w.registry_problem = Problem(kind, reason, "something")
        for _ in range(3):
            w.step()
        assert [e.reason for e in w.events if e.message == "something"] == [reason] * told * times
        w.registry_problem = None
        w.run()


@pytest.mark.parametrize("why", ["held", "no previous champion"])
def test_what_comes_beside_what_a_person_must_do_is_one_event_too(why: str) -> None:
    w = grown() if why == "held" else world()
    if why == "held":
        w.say(DecisionAction.HOLD)
    else:
        w.broken.add("1")
        w.register("1")
    w.run(400)
    w.registry_problem = Problem(ProblemKind.TRANSIENT, Reason.REGISTRY_UNAVAILABLE, "away " * 80)
    for _ in range(3):
        w.step()
    told = [e for e in w.events if e.reason is Reason.REGISTRY_UNAVAILABLE]
    assert len(told) == 1
    truth, reason = w.condition("Stalled")
    assert (truth, reason) == ("True", "Held" if why == "held" else "NoPreviousChampion")


def test_a_model_that_is_missing_is_one_event_while_pods_are_missing_too() -> None:
    w = grown()
    (pod,) = w.deployments["api"].pods
    pod.ready = False
    w.model_gone = True
    for _ in range(3):
        w.step()
    assert [e.reason for e in w.events].count(Reason.MODEL_NOT_FOUND) == 1
    assert w.condition("Ready") == ("False", "TargetNotReady")
    assert w.condition("Stalled") == ("False", "ModelNotFound")


def test_pods_that_are_missing_come_before_a_candidate_that_is_blocked() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    assert w.condition("Stalled") == ("False", "CandidateBlocked")
    (pod,) = w.deployments["api"].pods
    pod.ready = False
    w.step()
    assert w.condition("Stalled") == ("False", "TargetNotReady")


def test_conditions_are_of_the_spec_that_was_seen() -> None:
    w = grown()
    promotion = structs.replace(
        w.promotion, metadata=structs.replace(w.promotion.metadata, generation=7)
    )
    decision = decide(replace(w.observe(), promotion=promotion), w.now)
    assert {c.observed_generation for c in decision.status.conditions} == {7}


def test_what_has_a_rival_does_nothing_and_says_which() -> None:
    w = grown()
    w.register("3")
    rival = Problem(ProblemKind.STALLED, Reason.ALIAS_CLAIMED, "promotion other has the alias")
    decision = decide(replace(w.observe(), rival=rival), w.now)
    assert (decision.actions, decision.problem) == ((), rival)
    assert decision.status.attempt == w.status.attempt


def test_a_deployment_that_somebody_undid_is_not_called_served_while_suspended() -> None:
    w = grown(suspend=True)
    w.spec["suspend"] = False
    w.run()
    w.spec["suspend"] = True
    w.deployments["api"].model_version = "1"
    w.deployments["api"].move_id = "an-earlier-move"
    for pod in w.deployments["api"].pods:
        pod.move_id = "an-earlier-move"
    w.run()
    assert w.condition("Ready") == ("False", "TargetNotReady")
