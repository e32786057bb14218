"""Which version is meant: the archived one that served last, and a pin that is no rollback."""

from dataclasses import replace
from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction
from podium.api.promotion import Stage
from podium.api.promotion_status import Verdict
from podium.engine.candidate import candidate_since, last_archived, once_promoted
from podium.engine.needs import needs
from tests.unit.engine.iris import COMPARE, GATE, grown, world
from tests.unit.engine.world import World


def archived(*versions: str) -> World:
    """These were archived, in this order."""
    w = world(candidate={"version": "9"})
    for version in ("1", "2", "3", "4"):
        w.register(version)
    for version in versions:
        w.now += timedelta(hours=1)
        w.to_stage(version, Stage.ARCHIVED)
        w.versions[version] = type(w.versions[version])(
            **{**vars(w.versions[version]), "updated_at": w.now}
        )
    return w


def test_the_archived_version_that_changed_last_is_meant_not_the_highest() -> None:
    assert last_archived(archived("3", "1", "2").observe(), leaving=None) == "2"
    assert last_archived(archived("3", "1", "2").observe(), leaving="2") == "1"


def test_only_an_archived_version_is_meant() -> None:
    assert last_archived(archived().observe(), leaving=None) is None
    assert last_archived(archived("1").observe(), leaving="1") is None


def test_a_pin_to_a_version_that_was_refused_is_no_rollback() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    assert not once_promoted(w.observe(), "3")
    assert once_promoted(w.observe(), "2")
    w.verdicts["3"] = Verdict.PASS
    w.spec["approval"] = {"required": 1}
    w.spec["candidate"] = {"version": "3"}
    w.until("AwaitingApproval")
    assert w.alias == "2"


@pytest.mark.parametrize(
    "selector",
    [{"version": "1"}, {"latest": {"matchTags": {"validated": "true"}}}],
    ids=["a pin", "latest by tag"],
)
def test_a_selector_that_may_mean_an_older_version_asks_for_all_of_them(selector: object) -> None:
    """After a start only the newest of each stage are known: a spec that was edited then slept."""
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.spec["candidate"] = selector
    seen = w.observe()
    assert seen.model is not None
    newest = {n: v for n, v in seen.model.versions.items() if n in (w.alias, "3")}
    first_sight = replace(seen, model=replace(seen.model, versions=newest, complete=False))
    assert needs(first_sight, w.now).versions
    w.spec["candidate"] = {"latest": {}}
    plain = replace(w.observe(), model=first_sight.model)
    assert not needs(plain, w.now).versions


@pytest.mark.parametrize("before", [{"latest": {}}, {"version": "3"}], ids=["latest", "pin"])
def test_a_version_that_failed_is_tried_again_only_by_a_pin_that_is_new(
    before: dict[str, object],
) -> None:
    w = grown()
    w.spec["candidate"] = before
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.broken.clear()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "2"
    w.spec["candidate"] = {"alias": "again"}
    w.aliases["again"] = "3"
    w.run()
    assert w.alias == "2", "another selector does not name it"
    w.spec["candidate"] = {"version": "3"}
    w.run()
    assert w.alias == ("3" if "latest" in before else "2")


def test_a_version_that_was_not_better_is_compared_again_with_another_champion() -> None:
    w = grown(gates=[GATE, COMPARE])
    w.gate_verdicts["better"] = Verdict.FAIL
    w.register("3")
    w.run()
    w.gate_verdicts["better"] = Verdict.PASS
    w.run()
    assert w.alias == "2", "refused once"
    w.say(DecisionAction.ROLLBACK)
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.alias, w.served()) == ("3", {"3"})


def test_a_soak_is_that_of_the_version_that_is_judged() -> None:
    """The alias may have gone on to another one while people thought."""
    w = grown(candidate={"alias": "staging"})
    w.register("3")
    w.aliases["staging"] = "3"
    w.until("Validating")
    came = w.now - timedelta(hours=1)
    seen = replace(w.observe(), candidate_since=came)
    assert candidate_since(seen, "3") == came
    w.register("4")
    w.aliases["staging"] = "4"
    seen = replace(w.observe(), candidate_since=w.now)
    assert w.status.candidate is not None
    assert candidate_since(seen, "3") == w.status.candidate.since < w.now
