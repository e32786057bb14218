"""The conditions as a whole: what `kubectl get mp` answers at a glance."""

from podium.api.promotion_status import PromotionStatus
from podium.api.values import read, write
from tests.unit.engine.test_stories import grown


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
