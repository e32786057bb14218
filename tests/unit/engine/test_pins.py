"""Pins to versions that failed, and what people say of those: quarantine, holds, verdicts."""

from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction, DecisionOutcome
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.engine.decision import MirrorEntry
from tests.unit.engine.iris import PINNED, TARGET, grown, world
from tests.unit.engine.world import World

APPROVAL = {"required": 1, "excludeAuthors": False}
LATEST = {"latest": {}}


def pinned(w: World, version: str, **spec: object) -> World:
    w.spec = {**w.spec, "candidate": {"version": version}, **spec}
    return w


def rolled_back(w: World) -> World:
    """By a person, from the champion."""
    w.say(DecisionAction.ROLLBACK)
    w.run(400)
    return w


def actions(w: World) -> list[str]:
    return [entry.action.value for entry in w.status.history]


def in_quarantine(*, held: bool) -> World:
    """Version 3, that failed in its bake; after a Rollback by a person there is a hold over it."""
    w = world(rollback={"bakeDuration": "10m"}, historyLimit=20)
    for version in "12":
        w.register(version)
        w.run(200)
    w.register("3")
    w.until("Baking")
    w.now += timedelta(seconds=20)
    w.restart_containers("api")
    w.until("RollingBack")
    if held:
        w.say(DecisionAction.ROLLBACK, version="1")
    w.run(200)
    assert [q.version for q in w.status.quarantined] == ["3"]
    assert (w.status.hold is not None and w.status.hold.version == "3") == held
    return w


@pytest.mark.parametrize("lost", [False, True], ids=["status is kept", "status is lost"])
def test_a_pin_lifts_the_hold_over_a_version_and_leaves_its_quarantine(lost: bool) -> None:
    """So it is no rollback by Git, and approval is asked, also of what is read back."""
    w = in_quarantine(held=True)
    approval = {"required": 1, "excludeAuthors": False}
    w.spec = {**w.spec, "approval": approval, "candidate": {"version": "3"}}
    w.until("AwaitingApproval")
    assert w.status.hold is None
    if lost:
        w.status = PromotionStatus()
    w.steps(60)
    assert (w.alias, w.phase) == ("1", "AwaitingApproval")
    assert [q.version for q in w.status.quarantined] == ["3"]


@pytest.mark.parametrize("held", [False, True])
def test_a_pin_to_a_version_in_quarantine_that_a_gate_refuses_is_not_tried_again(
    held: bool,
) -> None:
    w = in_quarantine(held=held)
    w.spec = {**w.spec, "candidate": {"version": "3"}}
    w.verdicts["3"] = Verdict.FAIL
    w.run()
    assert w.phase == "Rejected"
    assert [e.action.value for e in w.status.history].count("Rejected") == 1
    w.verdicts["3"] = Verdict.PASS
    w.tag("3", reviewed="again")
    w.run(400)
    assert (w.alias, w.phase, w.status.quarantined) == ("3", "Promoted", ())


def test_a_version_quarantined_twice_is_once_in_a_status_that_is_read_back() -> None:
    """Else the API server refuses that status."""
    w = in_quarantine(held=False)
    w.spec = {**w.spec, "candidate": {"version": "3"}}
    w.broken.add("3")
    w.run(400)
    assert [e.action.value for e in w.status.history].count("Quarantined") == 2
    w.status = PromotionStatus()
    w.run()
    assert [q.version for q in w.status.quarantined] == ["3"]


def test_what_is_promoted_has_left_quarantine_though_no_entry_says_released() -> None:
    w = in_quarantine(held=False)
    w.spec = {**w.spec, "candidate": {"version": "3"}}
    w.until("Baking")
    assert [e.action.value for e in w.status.history][-2:] == ["Promoted", "Released"]
    assert isinstance(w.step(crash_after=1).actions[0], MirrorEntry)
    w.status = PromotionStatus()
    w.run(400)
    assert [e.action.value for e in w.status.history][-1] == "Promoted"
    assert w.status.quarantined == ()
    w.aliases["champion"] = "1"
    w.run(400)
    assert (w.alias, w.served()) == ("3", {"3"})


def test_a_person_who_lifts_a_quarantine_lifts_no_hold() -> None:
    """The pin was there all along: nobody named the version anew."""
    w = pinned(grown(rollback={"bakeDuration": "10m"}), "3")
    w.register("3")
    w.until("Baking")
    w.now += timedelta(seconds=20)
    w.restart_containers("api")
    w.until("RollingBack")
    w.say(DecisionAction.ROLLBACK, version="1")
    w.run(200)
    w.spec["approval"] = APPROVAL
    w.say(DecisionAction.RELEASE, version="3")
    w.run(200)
    assert (w.alias, w.condition("Stalled")) == ("1", ("True", "Held"))
    assert w.status.quarantined == ()


@pytest.mark.parametrize("ended", ["taken away", "refused"])
def test_a_pin_that_is_taken_away_leaves_what_was_rolled_back_as_it_was(ended: str) -> None:
    w = rolled_back(grown())
    assert w.alias == "1"
    w.verdicts["2"] = Verdict.PENDING if ended == "taken away" else Verdict.FAIL
    pinned(w, "2").steps(20)
    w.spec["candidate"] = LATEST
    w.steps(20)
    w.verdicts["2"] = Verdict.PASS
    w.tag("2", reviewed="again")
    w.run()
    assert (w.alias, w.condition("Ready")) == ("1", ("True", "ChampionServed"))
    name = w.say(DecisionAction.RELEASE, version="2")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.served()) == ("2", {"2"})


def test_what_was_rolled_back_may_be_released_by_its_version_and_a_hold_stays() -> None:
    w = rolled_back(grown())
    w.say(DecisionAction.HOLD)
    w.run()
    name = w.say(DecisionAction.RELEASE, version="2")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.condition("Stalled")) == ("1", ("True", "Held"))
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "2"


def test_a_retry_of_a_pinned_version_in_quarantine_is_what_its_refusal_asks_for() -> None:
    w = pinned(in_quarantine(held=False), "3", approval=APPROVAL).until("AwaitingApproval")
    attempt = w.status.active
    assert attempt is not None
    w.say(DecisionAction.REJECT, attempt_id=attempt.id, reason="not yet")
    w.run()
    assert (w.phase, w.condition("Stalled")) == ("Rejected", ("False", "CandidateBlocked"))
    name = w.say(DecisionAction.RETRY, version="3")
    w.steps(60)
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.phase) == ("2", "AwaitingApproval")


def test_without_the_pin_a_version_in_quarantine_is_released_and_not_retried() -> None:
    w = in_quarantine(held=False)
    name = w.say(DecisionAction.RETRY, version="3")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.REFUSED
    assert "use action Release" in w.answers[name][1]


def test_a_bake_that_ended_in_quarantine_does_not_begin_again() -> None:
    """The entries of the rollback went with the version that it went to."""
    w = in_quarantine(held=False)
    w.delete("2")
    w.status = PromotionStatus()
    w.run(200)
    assert (w.alias, w.served()) == ("1", {"1"})
    assert [q.version for q in w.status.quarantined] == ["3"]


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_a_rollback_before_the_alias_moved_is_carried_on_by_a_lost_status(
    target: dict[str, object],
) -> None:
    w = grown(targets=[target])
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.say(DecisionAction.ROLLBACK, version="1")
    w.until("RollingBack")
    w.step()
    w.status = PromotionStatus()
    w.run(300)
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")
    assert "Abandoned" not in actions(w)
