"""Which version is meant: the archived one that served last, and a pin that is no rollback."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from podium.api.decision import DecisionAction
from podium.api.ledger_entry import EntryAction
from podium.api.promotion import Stage
from podium.api.promotion_status import Verdict
from podium.engine import ledger
from podium.engine.candidate import candidate_since, last_archived, once_promoted, way_back
from podium.engine.needs import needs
from podium.engine.observation import Observation
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
    w.register("3")
    w.run()
    w.register("4", verdict=Verdict.FAIL)
    w.run()
    w.spec["candidate"] = selector
    seen = w.observe()
    assert seen.model is not None
    newest = {n: v for n, v in seen.model.versions.items() if n in "234"}
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


def told(seen: Observation, now: datetime, *entries: tuple[EntryAction, str, str]) -> Observation:
    """With these in the ledger: what happened, to which version, from which."""
    status = seen.status
    for action, to, left in entries:
        status = ledger.append(seen, status, now, action, to=to, from_version=left)
    return replace(seen, promotion=structs.replace(seen.promotion, status=status))


def test_what_was_given_up_and_promoted_again_may_be_guessed() -> None:
    w = grown()
    w.to_stage("2", Stage.ARCHIVED)
    w.to_stage("1", Stage.ARCHIVED)
    w.versions["2"] = replace(w.versions["2"], updated_at=w.now + timedelta(hours=1))
    assert last_archived(w.observe(), leaving="3") == "2"
    left = told(w.observe(), w.now, (EntryAction.ROLLBACK_INTENT, "1", "2"))
    assert last_archived(left, leaving="3") == "1"
    again = told(left, w.now, (EntryAction.PROMOTED, "2", "1"), (EntryAction.PROMOTED, "3", "2"))
    assert last_archived(again, leaving="3") == "2"


def test_the_way_back_ends_with_an_outcome_or_when_the_champion_is_to_stay() -> None:
    w = grown()
    began = told(w.observe(), w.now, (EntryAction.ROLLBACK_INTENT, "1", "2"))
    assert way_back(w.observe()) is None
    assert way_back(began) == "1"
    assert way_back(told(began, w.now, (EntryAction.REJECTED, "9", "2"))) == "1"
    assert way_back(told(began, w.now, (EntryAction.REJECTED, "2", "2"))) is None
    assert way_back(told(began, w.now, (EntryAction.REVERTED, "2", "9"))) is None
    assert way_back(told(began, w.now, (EntryAction.ADOPTED, "5", "2"))) is None
