"""A version that was not good in time, with nothing to go back to: it is given up and stays. What
happens when it comes good after all, and when it does not."""

from dataclasses import replace
from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction, DecisionOutcome
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus, Verdict
from tests.unit.engine.iris import PINNED, TARGET, grown, world
from tests.unit.engine.world import Pod, World

NOWHERE = ("True", "NoPreviousChampion")


def given_up(**spec: object) -> tuple[World, list[Pod]]:
    """A first version whose pods found no room until the deadline; and those pods."""
    w = world(**{"rollback": {"bakeDuration": "10m"}, "historyLimit": 20, **spec})
    w.register("1")
    w.until("Verifying")
    pods, w.deployments["api"].pods = w.deployments["api"].pods, []
    w.run(400)
    assert (w.phase, w.condition("Stalled")) == ("Rejected", NOWHERE)
    return w, pods


def came_good(**spec: object) -> World:
    w, pods = given_up(**spec)
    w.deployments["api"].pods = pods
    w.run(400)
    return w


def failed(w: World) -> World:
    """In its bake, by its own fault."""
    w.until("Baking")
    w.now += timedelta(seconds=20)
    w.restart_containers("api")
    w.run(400)
    return w


def left_by_a_person() -> World:
    """Version 2, not ready yet; what a Rollback would go back to is deleted meanwhile."""
    w = world(historyLimit=20)
    w.register("1")
    w.run()
    w.register("2")
    w.until("Verifying")
    w.deployments["api"].pods[-1].ready = False
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    w.delete("1")
    w.run(400)
    return w


def entries(w: World) -> list[str]:
    return [f"{e.action.value} {e.to}" for e in w.status.history]


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
@pytest.mark.parametrize("lost", [False, True], ids=["status is kept", "status is lost"])
def test_what_came_good_after_its_deadline_is_promoted(
    target: dict[str, object], lost: bool
) -> None:
    w, pods = given_up(targets=[target])
    if lost:
        w.status = PromotionStatus()
    w.deployments["api"].pods = pods
    w.run(400)
    assert (w.alias, w.status.champion_version, w.served()) == ("1", "1", {"1"})
    assert entries(w)[-1] == "Promoted 1"
    assert (w.condition("Ready")[0], w.condition("Stalled")[0]) == ("True", "False")
    assert w.status.highest_promoted == "1"
    moves = {e.move_id for e in w.status.history if e.move_id}
    assert len(moves) == 1, "nothing is restarted for it"
    assert w.status.champion and {w.status.champion.move_id} == moves


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_what_came_good_is_promoted_without_a_bake_too(target: dict[str, object]) -> None:
    w = came_good(targets=[target], rollback={"bakeDuration": "0s"})
    assert (w.phase, entries(w)[-1]) == ("Promoted", "Promoted 1")


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_the_next_one_that_fails_goes_back_to_what_came_good(target: dict[str, object]) -> None:
    w = came_good(targets=[target])
    w.register("2")
    failed(w)
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")


def test_the_next_one_that_fails_does_not_go_back_to_what_never_served() -> None:
    w, _ = given_up()
    w.register("2")
    failed(w)
    assert (w.alias, w.served(), w.condition("Stalled")) == ("2", {"2"}, ("True", "NoDestination"))


def test_what_was_to_be_gone_back_from_does_not_come_good() -> None:
    """A person found its predictions wrong; what they go back to is gone meanwhile."""
    w = left_by_a_person()
    assert (w.alias, w.phase, w.condition("Stalled")) == ("2", "Rejected", NOWHERE)
    assert "Promoted 2" not in entries(w)


def test_a_champion_that_came_good_is_told_like_any_other_when_a_pod_of_it_ends() -> None:
    w = came_good()
    w.now += timedelta(days=30)
    w.deployments["api"].pods = []
    w.run()
    assert w.condition("Stalled") == ("False", "TargetNotReady")


def test_a_pin_back_to_what_came_good_is_a_rollback_by_git() -> None:
    w = came_good()
    w.register("2")
    w.run(400)
    w.spec = {**w.spec, "approval": {"required": 1, "excludeAuthors": False}}
    w.spec = {**w.spec, "candidate": {"version": "1"}}
    w.run(400)
    assert (w.alias, w.phase) == ("1", "Promoted")


@pytest.mark.parametrize("stop", ["suspend", "hold", "spec"])
def test_where_the_alias_would_move_it_waits_while_told_to_stop(stop: str) -> None:
    """By version the alias is the outcome. An edited spec may ask for other gates."""
    w, pods = given_up(targets=[PINNED])
    if stop == "suspend":
        w.spec = {**w.spec, "suspend": True}
    elif stop == "hold":
        w.say(DecisionAction.HOLD)
    else:
        w.spec = {**w.spec, "gates": [{"name": "new", "metric": {"key": "m", "bound": {"min": 1}}}]}
    w.run()
    w.deployments["api"].pods = pods
    w.run(400)
    assert (w.alias, w.phase, w.condition("Stalled")) == (None, "Rejected", NOWHERE)


@pytest.mark.parametrize("then", ["status is lost", "the next one is refused"])
@pytest.mark.parametrize("when", ["verifying", "baking"])
def test_that_the_champion_is_in_quarantine_stays_told(when: str, then: str) -> None:
    w = world(rollback={"bakeDuration": "10m"}, historyLimit=20)
    if when == "verifying":
        w.broken.add("1")
    w.register("1")
    w.run(400) if when == "verifying" else failed(w)
    assert (w.status.champion_version, w.condition("Stalled")) == ("1", NOWHERE)
    if then == "status is lost":
        w.status = PromotionStatus()
    else:
        w.register("2", verdict=Verdict.FAIL)
    w.run(400)
    assert (w.status.champion_version, w.condition("Stalled")) == ("1", NOWHERE)


@pytest.mark.parametrize("held", [False, True], ids=["", "and a Hold before"])
@pytest.mark.parametrize("bake", ["10m", "0s"])
@pytest.mark.parametrize("lost", [False, True], ids=["status is kept", "status is lost"])
def test_what_a_person_went_back_from_does_not_return_when_the_destination_is_deleted(
    lost: bool, bake: str, held: bool
) -> None:
    """With it the ledger loses the rollback; the hold is an entry of its own."""
    w = world(rollback={"bakeDuration": bake}, historyLimit=20)
    for version in "12":
        w.register(version)
        w.run(200)
    w.register("3")
    w.run(300) if bake == "0s" else w.until("Baking")
    if held:
        w.say(DecisionAction.HOLD)
        w.steps(5)
    w.say(DecisionAction.ROLLBACK, version="2")
    w.run(200)
    w.delete("2")
    if lost:
        w.status = PromotionStatus()
    w.run(300)
    assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1")


def test_what_failed_is_archived_though_its_rollback_took_long_and_was_cut_short() -> None:
    w = grown()
    w.broken.update("23")
    w.register("3")
    w.until("RollingBack", 400)
    while w.deployments["api"].model_version != "2":
        w.steps(1)
    w.now += timedelta(minutes=11)
    w.steps(3)
    w.aliases["champion"] = "3"
    w.steps(3)
    w.broken.discard("2")
    w.deployments["api"].pods = w.deployments["api"].pods[-1:]
    w.deployments["api"].pods[0].ready = True
    w.run(400)
    assert (w.alias, w.stages()) == ("2", {"1": "Archived", "2": "Production", "3": "Archived"})


def test_retry_of_what_was_rolled_back_is_refused_though_a_gate_refused_it_too() -> None:
    w = grown(historyLimit=20)
    w.say(DecisionAction.ROLLBACK)
    w.run(400)
    w.verdicts["2"] = Verdict.FAIL
    w.spec = {**w.spec, "candidate": {"version": "2"}}
    w.run(400)
    w.spec = {**w.spec, "candidate": {"latest": {}}}
    w.run()
    said = w.say(DecisionAction.RETRY, version="2")
    w.run()
    outcome, message = w.answers[said]
    assert (outcome, "use action Release" in message) == (DecisionOutcome.REFUSED, True)


def test_what_was_refused_since_does_not_come_good() -> None:
    """By version, a Release lets it be tried again, and a gate refuses it then."""
    w, pods = given_up(targets=[PINNED])
    w.verdicts["1"] = Verdict.FAIL
    w.say(DecisionAction.RELEASE, version="1")
    w.run()
    assert entries(w)[-1] == "Rejected 1"
    w.deployments["api"].pods = pods
    w.run(400)
    assert (w.alias, w.phase) == (None, "Rejected")


def test_what_came_good_while_the_next_one_waits_is_gone_back_to() -> None:
    w, pods = given_up()
    w.register("2", verdict=Verdict.PENDING)
    w.until("Validating")
    w.deployments["api"].pods = pods
    w.steps(5)
    assert (w.phase, entries(w)[-1]) == ("Validating", "Promoted 1")
    w.verdicts["2"] = Verdict.PASS
    failed(w)
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")


def test_what_came_good_while_its_alias_and_status_were_lost_is_not_tried_without_end() -> None:
    w, pods = given_up()
    w.deployments["api"].pods = pods
    del w.aliases["champion"]
    w.status = PromotionStatus()
    w.run(100)
    assert (w.status.champion_version, entries(w)) == (None, ["PromoteIntent 1", "Rejected 1"])


def test_by_version_what_is_not_selected_any_more_does_not_get_the_alias() -> None:
    candidate = {"latest": {"matchTags": {"reviewed": "yes"}}}
    w = world(rollback={"bakeDuration": "10m"}, targets=[PINNED], candidate=candidate)
    w.register("1", reviewed="yes")
    w.until("Verifying")
    pods, w.deployments["api"].pods = w.deployments["api"].pods, []
    w.run(400)
    w.tag("1", reviewed="no")
    w.deployments["api"].pods = pods
    w.run(400)
    assert (w.alias, w.phase) == (None, "Rejected")


@pytest.mark.parametrize("lost", [False, True], ids=["status is kept", "status is lost"])
def test_what_a_person_went_back_from_is_not_promoted_by_coming_good(lost: bool) -> None:
    """The intent of that rollback is in MLflow a tag of its destination, which is deleted."""
    w = left_by_a_person()
    if lost:
        w.status = PromotionStatus()
    w.run(200)
    w.deployments["api"].pods = w.deployments["api"].pods[-1:]
    w.deployments["api"].pods[0].ready = True
    w.run(400)
    assert "Promoted 2" not in entries(w)
    assert (w.condition("Ready")[0], w.condition("Stalled")) == ("True", ("True", "Held"))


def test_what_found_no_room_and_whose_way_back_was_deleted_comes_good() -> None:
    w = world(historyLimit=20, rollback={"bakeDuration": "10m"})
    w.register("1")
    w.run(200)
    w.register("2")
    w.until("Verifying")
    pods, w.deployments["api"].pods = w.deployments["api"].pods, []
    w.until("RollingBack", 500)
    w.delete("1")
    w.run(400)
    w.deployments["api"].pods = pods
    w.say(DecisionAction.RELEASE)
    w.run(400)
    assert (w.phase, w.condition("Stalled")[0]) == ("Promoted", "False")
    w.register("3")
    failed(w)
    assert (w.alias, w.phase) == ("2", "RolledBack")


def test_a_rollback_that_a_person_sent_on_to_where_it_came_from_leaves_that_one() -> None:
    """The hold is still over it; a drift is reverted all the same."""
    w = world(rollback={"bakeDuration": "0s"}, historyLimit=20)
    for version in "123":
        w.register(version)
        w.run(300)
    w.say(DecisionAction.ROLLBACK, version="2")
    w.until("RollingBack")
    w.say(DecisionAction.ROLLBACK, version="3")
    w.run(300)
    assert (w.alias, w.status.hold is not None) == ("3", True)
    w.now += timedelta(days=1)
    w.aliases["champion"] = "1"
    w.run(300)
    assert (w.alias, w.served()) == ("3", {"3"})


def test_what_was_left_and_promoted_again_gets_the_alias_back() -> None:
    """That an earlier hold was over it does not count any more, though another is in force."""
    w = world(rollback={"bakeDuration": "0s"}, historyLimit=20)
    for version in "123":
        w.register(version)
        w.run(300)
    w.say(DecisionAction.ROLLBACK)
    w.run(300)
    w.spec["candidate"] = {"version": "3"}
    w.say(DecisionAction.RELEASE)
    w.run(300)
    assert (w.alias, entries(w)[-1]) == ("3", "Promoted 3")
    w.say(DecisionAction.HOLD)
    w.run(300)
    w.now += timedelta(days=1)
    w.aliases["champion"] = "1"
    w.run(300)
    assert (w.alias, w.served()) == ("3", {"3"})


def test_what_was_being_left_is_not_returned_to_when_its_rollback_was_cut_short() -> None:
    """Then the destination is deleted, and with it that entry of the ledger."""
    w = world(rollback={"bakeDuration": "0s"}, historyLimit=20)
    for version in "123":
        w.register(version)
        w.run(300)
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    w.register("4", verdict=Verdict.FAIL)
    w.aliases["champion"] = "4"
    w.until("Superseded")
    while w.observe().ledger.head_seq < w.status.ledger_seq:
        w.step()
    assert entries(w)[-1] == "Abandoned 3"
    w.delete("2")
    w.status = PromotionStatus()
    w.run(300)
    assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1")


def test_a_rollback_sent_on_is_carried_on_after_a_lost_status() -> None:
    """The alias is where it was going before, which nobody moved it to."""
    w = world(rollback={"bakeDuration": "0s"}, historyLimit=20)
    for version in "123":
        w.register(version)
        w.run(300)
    w.say(DecisionAction.ROLLBACK, version="1")
    while w.alias != "1":
        w.steps(1)
    assert w.phase == "RollingBack"
    w.say(DecisionAction.ROLLBACK, version="2")
    while entries(w)[-1] != "RollbackIntent 2" or w.observe().ledger.head_seq < w.status.ledger_seq:
        w.steps(1)
    assert w.alias == "1"
    w.status = PromotionStatus()
    w.run(300)
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")
    assert not any(entry.startswith("Abandoned") for entry in entries(w))


def test_a_stage_that_a_person_gave_to_what_failed_long_ago_is_left() -> None:
    w = grown(historyLimit=20)
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.now += timedelta(days=30)
    w.to_stage("3", Stage.STAGING)
    w.run()
    w.broken.discard("3")
    w.aliases["champion"] = "3"
    w.run(400)
    assert (w.alias, w.stages()["3"]) == ("2", "Staging")


def test_by_version_a_move_goes_on_once() -> None:
    """What Verifying asks for may never come, though the Deployment says that all is well."""
    w, pods = given_up(targets=[PINNED])
    stranger = Pod("stranger", "another-move", "0", w.now)
    w.deployments["api"].pods = [*pods, stranger]
    for _ in range(6):
        w.deployments["api"].pods = [*pods, stranger]
        w.run(100)
        w.now += timedelta(minutes=11)
    assert entries(w).count("PromoteIntent 1") <= 2


def test_what_somebody_put_into_production_is_not_archived_while_it_is_tried() -> None:
    w, pods = given_up()
    w.spec = {**w.spec, "candidate": {"stage": "Production"}}
    w.register("2", verdict=Verdict.PENDING)
    w.to_stage("2", Stage.PRODUCTION)
    w.until("Validating")
    w.deployments["api"].pods = pods
    w.steps(20)
    assert (w.phase, w.stages()["2"]) == ("Validating", "Production")
    w.verdicts["2"] = Verdict.PASS
    w.run(400)
    assert (w.alias, w.stages()) == ("2", {"1": "Archived", "2": "Production"})


def test_what_it_takes_the_place_of_leaves_its_stage() -> None:
    w = world(stage="Staging", historyLimit=20)
    w.register("1")
    w.run(200)
    w.register("2")
    w.until("Verifying")
    pods, w.deployments["api"].pods = w.deployments["api"].pods, []
    w.unready("1")
    w.run(400)
    assert w.condition("Stalled") == NOWHERE
    w.deployments["api"].pods = pods
    w.run(400)
    assert w.stages() == {"1": "Archived", "2": "Staging"}


def test_a_rollback_in_the_bake_of_what_came_good_is_carried_out() -> None:
    """It had begun to go back for want of room, and has nothing of that any more."""
    w = grown(historyLimit=20, rollback={"bakeDuration": "10m"})
    w.register("3")
    w.until("Verifying")
    pods, w.deployments["api"].pods = w.deployments["api"].pods, []
    w.until("RollingBack", 500)
    w.unready("2")
    w.unready("1")
    w.run(400)
    assert (w.phase, w.condition("Stalled")) == ("Rejected", NOWHERE)
    w.versions["1"] = replace(w.versions["1"], ready=True)
    w.deployments["api"].pods = pods
    w.until("Baking")
    said = w.say(DecisionAction.ROLLBACK)
    w.run(400)
    assert (w.answers[said][0], w.alias) == (DecisionOutcome.APPLIED, "1")


@pytest.mark.parametrize("between", ["", "the next one is refused", "status is lost"])
def test_what_came_good_bakes(between: str) -> None:
    w, pods = given_up()
    if between == "the next one is refused":
        w.register("2", verdict=Verdict.FAIL)
        w.run(400)
    elif between == "status is lost":
        w.status = PromotionStatus()
    w.deployments["api"].pods = pods
    failed(w)
    assert (w.status.champion_version, w.condition("Stalled")) == ("1", NOWHERE)
    w.register("3")
    failed(w)
    assert (w.alias, w.phase) == ("3", "Rejected"), "nothing goes back to what is in quarantine"


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_without_pods_it_does_not_come_good(target: dict[str, object]) -> None:
    """Somebody scales it to zero, and later back: there is still no room."""
    w, _ = given_up(targets=[target])
    for desired in (0, 1):
        w.deployments["api"].desired = desired
        w.run(400)
        assert entries(w)[-1] == "Rejected 1"
    assert w.condition("Stalled") == NOWHERE


@pytest.mark.parametrize("refused", ["2", "3"])
def test_by_version_it_gets_the_alias_though_a_newer_one_was_refused(refused: str) -> None:
    """Of those between them nobody speaks any more: `latest` looks at the newest alone."""
    w, pods = given_up(targets=[PINNED])
    for version in "23":
        if version <= refused:
            w.register(version, verdict=Verdict.FAIL)
    w.run(400)
    w.deployments["api"].pods = pods
    w.run(400)
    assert (w.alias, w.phase) == ("1", "Promoted")


def test_by_version_it_does_not_get_the_alias_while_a_newer_one_is_judged() -> None:
    w, pods = given_up(targets=[PINNED])
    w.register("2", verdict=Verdict.PENDING)
    w.until("Validating")
    w.deployments["api"].pods = pods
    w.steps()
    assert (w.alias, w.phase) == (None, "Validating")


def test_by_version_it_comes_good_though_a_person_gave_it_the_alias() -> None:
    w, pods = given_up(targets=[PINNED])
    w.aliases["champion"] = "1"
    w.run(100)
    assert w.condition("Stalled") == NOWHERE
    w.deployments["api"].pods = pods
    w.run(400)
    assert (w.alias, w.status.champion_version, w.phase) == ("1", "1", "Promoted")


def test_a_bake_begins_with_nothing_of_the_one_that_failed() -> None:
    w = world(rollback={"bakeDuration": "10m"}, historyLimit=20)
    w.register("1")
    w.until("Baking")
    for _ in range(38):
        w.step()
        w.now += timedelta(seconds=15)
    failed(w)
    w.say(DecisionAction.RELEASE, version="1")
    w.until("Baking")
    began = w.now
    w.until("Promoted", 200)
    assert w.now - began >= timedelta(minutes=10)


@pytest.mark.parametrize("also", ["", "another problem"])
def test_that_it_is_held_too_is_told(also: str) -> None:
    """By a rollback that found its destination deleted: the next one is not tried."""
    w = left_by_a_person()
    w.register("3")
    if also:
        w.deployments.clear()
    w.run(400)
    said = next(c.message for c in w.status.conditions if c.type == "Stalled")
    assert "a Release lifts the hold" in said


def test_where_nothing_is_to_be_changed_what_lost_ready_comes_good_with_it() -> None:
    """Without targets the alias is all there is."""
    w = world(targets=[], historyLimit=20, rollback={"bakeDuration": "10m"})
    w.register("1")
    w.until("Baking")
    w.unready("1")
    w.run(100)
    assert entries(w)[-1] == "Rejected 1"
    w.versions["1"] = replace(w.versions["1"], ready=True)
    w.run(400)
    assert (w.phase, entries(w)[-1]) == ("Promoted", "Promoted 1")
