"""What people say, in every phase."""

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from podium.api.decision import DecisionAction, DecisionOutcome
from podium.api.ledger_entry import EntryAction
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.engine.decide import decide
from tests.unit.engine.iris import GATE, PINNED, TARGET, another, grown, world
from tests.unit.engine.world import World

pytestmark = pytest.mark.usefixtures("retold")


def actions_of(w: World) -> list[tuple[str, str | None]]:
    return [(entry.action.value, entry.to) for entry in w.status.history]


def test_a_rollback_cuts_in_before_the_intent() -> None:
    """The attempt that ran ends as Superseded, and its candidate does not stay in Staging."""
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    assert w.stages()["3"] == "Staging"
    attempt = w.status.active
    assert attempt is not None
    name = w.say(DecisionAction.ROLLBACK)
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.served()) == ("1", {"1"})
    assert w.stages() == {"1": "Production", "2": "Archived"}
    ended = [e for e in w.status.history if e.attempt == attempt.id]
    assert [e.action for e in ended] == [EntryAction.SUPERSEDED]


def test_a_rollback_cuts_in_after_the_intent() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    name = w.say(DecisionAction.ROLLBACK)
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")
    assert w.status.quarantined == ()
    assert w.stages() == {"1": "Archived", "2": "Production", "3": "Archived"}


def test_a_rollback_that_does_not_become_ready_can_be_sent_elsewhere() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.broken.add("2")
    w.say(DecisionAction.ROLLBACK)
    w.run(400)
    assert w.condition("Stalled") == ("True", "RollbackFailed")
    same = w.say(DecisionAction.ROLLBACK, version="2")
    w.run()
    assert w.answers[same][0] is DecisionOutcome.REFUSED
    elsewhere = w.say(DecisionAction.ROLLBACK, version="3")
    w.run(400)
    assert w.answers[elsewhere][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.served(), w.phase) == ("3", {"3"}, "RolledBack")
    assert w.stages() == {"1": "Archived", "2": "Archived", "3": "Production"}
    assert w.condition("Ready") == ("True", "ChampionServed")


@pytest.mark.parametrize("trouble", ["quarantined", "deleted", "not READY", "current", "unknown"])
def test_a_rollback_to_a_version_that_cannot_be_is_refused(trouble: str) -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    to = {"quarantined": "3", "current": "2", "unknown": "99"}.get(trouble, "1")
    if trouble == "deleted":
        w.delete("1")
    if trouble == "not READY":
        w.unready("1")
    name = w.say(DecisionAction.ROLLBACK, version=to)
    w.run()
    assert w.answers[name][0] is DecisionOutcome.REFUSED
    assert (w.alias, w.status.hold) == ("2", None)


def test_a_rollback_with_nothing_to_go_back_from_or_to_is_refused() -> None:
    w = world()
    first = w.say(DecisionAction.ROLLBACK)
    w.run()
    w.register("1")
    w.run()
    second = w.say(DecisionAction.ROLLBACK)
    w.run()
    words = [w.answers[name] for name in (first, second)]
    assert words == [
        (DecisionOutcome.REFUSED, "there is no champion to roll back from"),
        (DecisionOutcome.REFUSED, "the ledger names no earlier champion; name a version"),
    ]
    assert (w.alias, w.served()) == ("1", {"1"})


@pytest.mark.parametrize("phase", ["Verifying", "Baking"])
def test_a_rollback_of_a_move_goes_to_where_the_alias_was(phase: str) -> None:
    """After its outcome too: not to 3, which was promoted last but taken back by a person."""
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.run()
    w.say(DecisionAction.ROLLBACK, version="1")
    w.run()
    w.say(DecisionAction.RELEASE)
    w.register("4")
    w.until(phase)
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")


def test_a_second_rollback_does_not_go_forward_to_what_the_first_one_left() -> None:
    w = grown()
    w.say(DecisionAction.ROLLBACK)
    w.run()
    w.now += timedelta(hours=1)
    again = w.say(DecisionAction.ROLLBACK)
    w.run()
    text = "the ledger names no earlier champion; name a version"
    assert w.answers[again] == (DecisionOutcome.REFUSED, text)
    assert (w.alias, w.served()) == ("1", {"1"})


def grown_to(last: str) -> World:
    w = world()
    for number in range(1, int(last) + 1):
        w.register(str(number))
        w.run()
    return w


def back(w: World, to: str | None = None) -> str | None:
    """Where a Rollback ends."""
    w.say(DecisionAction.ROLLBACK, version=to)
    w.run(900)
    return w.alias


def test_a_rollback_past_a_version_leaves_it_behind_too() -> None:
    w = grown_to("3")
    assert [back(w, "1"), w.status.champion_version] == ["1", "1"]
    back(w)
    assert w.alias == "1", "2 was said to be bad as well"
    assert back(w, "2") == "2"


def test_a_rollback_does_not_return_to_the_destination_that_did_not_start() -> None:
    w = grown_to("4")
    w.broken.add("3")
    back(w)
    assert w.condition("Stalled") == ("True", "RollbackFailed")
    assert [back(w, "2"), back(w)] == ["2", "1"]


@pytest.mark.parametrize("to", ["4", "5"])
def test_nor_after_it_was_sent_forward_from_there(to: str) -> None:
    w = grown_to("4")
    w.register("5", verdict=Verdict.FAIL)
    w.run()
    w.broken.add("3")
    back(w)
    assert [back(w, to), back(w)] == [to, "2"]


def test_a_rollback_sent_back_at_once_leaves_where_it_was_going_as_the_last_resort() -> None:
    w = grown()
    w.say(DecisionAction.ROLLBACK, reason="the wrong window")
    w.until("RollingBack")
    assert back(w, "2") == "2"
    w.delete("2")
    w.run()
    assert (w.alias, w.served()) == ("1", {"1"})


def test_a_rollback_that_ends_where_it_was_going_first_leaves_the_same() -> None:
    w = grown_to("5")
    w.broken |= {"2", "4"}
    for to in ("2", "4"):
        w.say(DecisionAction.ROLLBACK, version=to)
        w.steps(10)
    w.broken.clear()
    assert [back(w, "2"), back(w)] == ["2", "1"]


def test_nor_to_what_a_person_left_while_drift_was_taken_back() -> None:
    w = grown_to("3")
    w.now += timedelta(hours=1)
    w.aliases["champion"] = "1"
    w.restart_containers("api")
    w.broken.add("3")
    w.run(900)
    assert [back(w, "2"), back(w)] == ["2", "1"]


def test_nor_to_what_a_pin_asked_for_and_a_gate_refused() -> None:
    w = grown_to("3")
    assert back(w) == "2"
    w.verdicts["3"] = Verdict.FAIL
    w.spec["candidate"] = {"version": "3"}
    w.run()
    assert w.phase == "Rejected"
    assert back(w) == "1"


def test_a_rollback_long_past_is_not_gone_on_with() -> None:
    """The entry of the promotion after it is gone with its version."""
    w = grown_to("3")
    assert [back(w), back(w)] == ["2", "1"]
    w.spec["candidate"] = {"version": "3"}
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "3"
    w.spec["candidate"] = {"latest": {}}
    for number in range(4, 15):
        w.register(str(number), verdict=Verdict.FAIL)
        w.run()
    w.delete("3")
    w.run()
    assert w.alias == "1"


def test_the_first_champion_that_failed_by_version_can_be_sent_to_another() -> None:
    w = world(targets=[PINNED])
    w.broken.add("2")
    w.register("1")
    w.to_stage("1", Stage.ARCHIVED)
    w.register("2")
    w.run(900)
    assert (w.alias, w.condition("Stalled")[1]) == (None, "NoDestination")
    assert back(w, "1") == "1"
    assert w.deployments["api"].env_value == "models:/iris/1"


def test_the_hold_of_a_person_outlasts_that_of_a_rollback() -> None:
    w = grown_to("2")
    w.register("3")
    w.until("Verifying")
    w.say(DecisionAction.HOLD, reason="until Monday")
    w.steps(3)
    assert back(w) == "2"
    w.spec["candidate"] = {"version": "3"}
    w.run()
    assert w.alias == "2"
    assert w.status.hold is not None and "until Monday" in w.status.hold.reason
    w.status = PromotionStatus(claim=w.status.claim)
    w.run()
    assert w.status.hold is not None and "until Monday" in w.status.hold.reason


def test_a_hold_over_a_deleted_alias_is_no_persons_hold() -> None:
    w = grown_to("3")
    w.spec["aliasDriftPolicy"] = "Hold"
    del w.aliases["champion"]
    w.run()
    assert w.status.hold is not None
    assert back(w, "2") == "2"
    assert w.status.hold.version == "3"


def test_a_released_version_is_gone_back_to_when_a_person_names_it() -> None:
    w = grown(rollback={"bakeDuration": "10m"})
    w.register("3")
    w.until("Baking")
    w.now += timedelta(seconds=20)
    w.restart_containers("api")
    w.run()
    assert (w.alias, [q.version for q in w.status.quarantined]) == ("2", ["3"])
    w.spec["candidate"] = {"version": "2"}
    w.say(DecisionAction.RELEASE, version="3")
    w.run()
    assert w.alias == "2"
    w.say(DecisionAction.ROLLBACK, version="3")
    w.run()
    assert (w.alias, w.served()) == ("3", {"3"})


def test_a_rollback_that_is_refused_leaves_the_attempt_as_it_is() -> None:
    w = grown()
    w.spec["approval"] = {"required": 2}
    w.register("3")
    w.until("AwaitingApproval")
    attempt = w.status.attempt
    nowhere = w.say(DecisionAction.ROLLBACK, version="99")
    w.steps(40)
    text = "version 99 does not exist or is not READY"
    assert w.answers[nowhere] == (DecisionOutcome.REFUSED, text)
    assert attempt and w.status.attempt and w.status.attempt.id == attempt.id
    assert w.phase == "AwaitingApproval"


def test_a_rollback_whose_usual_destination_is_not_ready_goes_to_the_one_before() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.unready("2")
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")


@pytest.mark.parametrize("given_back", [False, True])
def test_a_rollback_that_somebody_cut_short_by_moving_the_alias_ends_where_it_was_going(
    given_back: bool,
) -> None:
    """Not at the version that was being left, though that is still the champion by status."""
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    w.aliases["champion"] = "3"
    while w.phase != "Superseded":
        w.steps(1)
    if given_back:
        w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1")
    assert w.status.hold is not None


def cut_short(w: World, at: str) -> World:
    """A Rollback begins, and somebody moves the alias."""
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    w.aliases["champion"] = at
    while w.phase != "Superseded":
        w.steps(1)
    return w


@pytest.mark.parametrize("alias", ["3", None])
def test_a_rollback_cut_short_that_has_nowhere_to_go_any_more_stays(alias: str | None) -> None:
    """The version that was being left is all that is left to serve."""
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    cut_short(w, "3").delete("1")
    if alias is None:
        del w.aliases["champion"]
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})


@pytest.mark.parametrize("late", [False, True], ids=["before the revert", "during it"])
def test_drift_does_not_go_back_to_what_was_being_left(late: bool) -> None:
    w = grown()
    w.register("3")
    w.run()
    w.register("4", verdict=Verdict.FAIL)
    w.run()
    cut_short(w, "4")
    if late:
        w.until("RollingBack")
    w.delete("2")
    w.run()
    assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1")


def test_what_was_adopted_over_a_rollback_and_fails_goes_where_that_was_going() -> None:
    w = world(candidate=None, gates=[])
    for version in "125":
        w.register(version)
    for version in "12":
        w.aliases["champion"] = version
        w.run()
    w.broken.add("5")
    cut_short(w, "5").say(DecisionAction.RELEASE)
    w.run(400)
    assert (w.alias, w.served()) == ("1", {"1"})


def test_a_rollback_cut_short_goes_on_though_status_is_lost() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    cut_short(w, "3").steps(1)  # MLflow's ledger says so too
    assert w.phase == "Superseded"
    w.aliases["champion"] = "2"
    w.status = PromotionStatus()
    w.run()
    assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1")


@pytest.mark.parametrize("policy", ["Alert", "Hold"])
def test_a_rollback_cut_short_does_not_go_on_where_drift_is_left_alone(policy: str) -> None:
    w = grown(aliasDriftPolicy=policy)
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    cut_short(w, "3").run()
    assert w.alias == "3"
    w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.served(), w.condition("Ready")[1]) == ("2", {"2"}, "ChampionServed")


def test_a_rollback_cut_short_goes_where_it_was_going_though_that_was_not_known_at_rest() -> None:
    """After a restart only the newest version of each stage is known."""
    w = grown()
    for version in "34":
        w.register(version)
        w.run()
    w.say(DecisionAction.ROLLBACK, version="2")
    w.until("RollingBack")
    w.spec["suspend"] = True
    for version in "14":
        w.aliases["champion"] = version
        w.run()
    w.spec["suspend"] = False
    w.restarted = True
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})


@pytest.mark.parametrize("moved", [False, True], ids=["before", "after"])
def test_a_rollback_whose_destination_is_deleted_goes_to_where_the_alias_was(moved: bool) -> None:
    """Before or after the alias went there. And its outcome still names who decided it."""
    w = grown()
    w.register("3")
    w.run()
    w.say(DecisionAction.ROLLBACK, version="1")
    w.run()
    w.say(DecisionAction.RELEASE)
    w.register("4")
    w.until("Verifying")
    name = w.say(DecisionAction.ROLLBACK, version="3", by="zoe")
    w.until("RollingBack")
    while moved and w.alias != "3":
        w.step()
    w.delete("3")
    w.run(400)
    outcome = w.status.history[-1]
    assert (w.alias, outcome.action, outcome.by) == ("1", EntryAction.ROLLED_BACK, "zoe")
    assert outcome.decision == f"{name}/{name}"


def test_a_rollback_at_rest_goes_on_when_its_destination_is_deleted_with_the_alias() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.say(DecisionAction.ROLLBACK, by="zoe")
    while w.alias != "2":
        w.step()
    w.delete("2")
    w.run(400)
    assert (w.alias, w.status.history[-1].by) == ("1", "zoe")


def test_a_redirected_rollback_never_ends_at_the_version_that_is_left() -> None:
    w = grown()
    w.register("3")
    w.until("Verifying")
    w.say(DecisionAction.ROLLBACK)
    while w.phase != "RollingBack":
        w.step()
    assert w.alias == "3"
    w.say(DecisionAction.ROLLBACK, version="1")
    w.step()
    w.step()
    w.delete("1")
    w.run(400)
    assert (w.alias, w.status.champion_version) == ("2", "2")


def test_a_rollback_that_runs_is_not_sent_to_a_version_that_cannot_be() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.broken.add("2")
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    names = [w.say(DecisionAction.ROLLBACK, version=to) for to in ("99", "2")]
    w.run(400)
    assert [w.answers[name][0] for name in names] == 2 * [DecisionOutcome.REFUSED]
    assert w.alias == "2"


@pytest.mark.parametrize("policy", ["Hold", "Alert"])
def test_a_rollback_by_decision_wins_over_an_alias_that_somebody_moved(policy: str) -> None:
    w = grown(aliasDriftPolicy=policy)
    w.spec["suspend"] = True
    w.register("3")
    w.aliases["champion"] = "3"
    w.run()
    assert w.alias == "3"
    w.say(DecisionAction.ROLLBACK, version="1")
    w.run()
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")


def test_a_decision_for_an_earlier_promotion_of_the_name_has_no_effect() -> None:
    w = grown()
    name = w.say(DecisionAction.ROLLBACK, to_uid="another")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.EXPIRED
    assert w.alias == "2"


def test_an_approval_of_another_attempt_has_no_effect() -> None:
    w = world(approval={"required": 1})
    w.register("1")
    w.until("AwaitingApproval")
    name = w.say(DecisionAction.APPROVE, attempt_id="1-000000", evidence_digest="sha256:0")
    w.steps()
    assert w.answers[name][0] is DecisionOutcome.EXPIRED
    assert w.phase == "AwaitingApproval"


def test_an_approval_of_a_version_that_is_deleted_meanwhile_moves_nothing() -> None:
    w = world(approval={"required": 1})
    w.register("1")
    w.until("AwaitingApproval")
    name = approved(w)
    w.delete("1")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.phase) == (None, "Superseded")


def test_an_approval_before_it_is_asked_for_has_no_effect() -> None:
    w = world(approval={"required": 1})
    w.register("1", verdict=Verdict.PENDING)
    w.until("Validating")
    attempt = w.status.active
    assert attempt is not None
    name = w.say(DecisionAction.APPROVE, attempt_id=attempt.id, evidence_digest="")
    w.steps(10)
    assert w.answers[name][0] is DecisionOutcome.REFUSED


def approved(w: World, by: str = "ann") -> str:
    attempt = w.status.active
    assert attempt is not None
    return w.say(
        DecisionAction.APPROVE,
        attempt_id=attempt.id,
        evidence_digest=attempt.evidence_digest or "",
        by=by,
    )


def test_an_outage_of_what_the_gates_read_does_not_void_approvals() -> None:
    w = world(approval={"required": 2})
    w.register("1")
    w.until("AwaitingApproval")
    approved(w)
    w.steps(10)
    w.verdicts["1"] = Verdict.ERROR
    w.steps(10)
    assert w.phase == "AwaitingApproval"
    assert w.status.attempt is not None
    assert len(w.status.attempt.approvals) == 1
    approved(w, by="bob")
    w.steps(10)
    assert w.alias is None, "a gate that cannot be asked is no Pass"
    w.verdicts["1"] = Verdict.PASS
    w.now += w.promotion.spec.rollout.progress_deadline.delta
    w.run()
    assert w.alias == "1"


def test_a_dry_run_gate_never_voids_approvals() -> None:
    rehearsal = {**GATE, "name": "rehearsal", "dryRun": True}
    w = world(approval={"required": 2}, gates=[GATE, rehearsal])
    w.gate_verdicts["rehearsal"] = Verdict.PENDING
    w.register("1")
    w.until("AwaitingApproval")
    approved(w)
    w.gate_verdicts["rehearsal"] = Verdict.FAIL
    w.steps(10)
    assert w.status.attempt is not None
    assert len(w.status.attempt.approvals) == 1


def test_gates_that_change_after_the_approval_void_it() -> None:
    w = world(approval={"required": 1}, suspend=True)
    w.spec["suspend"] = False
    w.register("1")
    w.until("AwaitingApproval")
    w.spec["suspend"] = True
    approved(w)
    w.steps(10)
    w.spec["gates"] = [GATE, {"name": "reviewed", "tag": {"key": "reviewed"}}]
    w.spec["suspend"] = False
    w.steps(20)
    assert (w.phase, w.alias) == ("AwaitingApproval", None)
    assert w.status.attempt is not None
    assert w.status.attempt.approvals == ()


@pytest.mark.parametrize("before", [None, {"required": 1}])
def test_approval_that_is_asked_for_late_is_still_asked_for(
    before: dict[str, object] | None,
) -> None:
    """I1: approved for this spec, not for the one before it."""
    w = world(targets=[TARGET, another(TARGET, "web")], approval=before)
    del w.deployments["web"]
    w.register("1")
    if before:
        w.until("AwaitingApproval")
        approved(w)
    else:
        w.until("Promoting")
    w.steps()
    assert (w.phase, w.alias) == ("Promoting", None)
    w.spec["approval"] = {"required": 2}
    w.put_deployment("web")
    w.steps(20)
    assert (w.phase, w.alias) == ("AwaitingApproval", None)
    approved(w, by="bob")
    if not before:
        approved(w, by="carl")
    w.run()
    assert w.alias == "1"


def test_two_approvals_by_one_person_are_one() -> None:
    w = world(approval={"required": 2})
    w.register("1")
    w.until("AwaitingApproval")
    approved(w)
    approved(w)
    w.steps(30)
    assert w.alias is None


def test_nobody_and_nobody_are_one() -> None:
    w = world(approval={"required": 2})
    w.register("1")
    w.until("AwaitingApproval")
    approved(w, by="")
    approved(w, by="")
    w.steps(30)
    assert w.alias is None


@pytest.mark.parametrize("author", ["of the version", "of the spec"])
def test_an_author_does_not_approve(author: str) -> None:
    w = world(approval={"required": 1})
    w.register("1")
    w.until("AwaitingApproval")
    w.author("1", "zoe", *(["ann"] if author == "of the version" else []))
    w.annotations = {"podium.dev/spec-author": "ann" if author == "of the spec" else "zoe"}
    own = approved(w)
    w.steps()
    assert w.answers[own] == (
        DecisionOutcome.REFUSED,
        "ann is an author; approval.excludeAuthors is true",
    )
    assert w.alias is None
    approved(w, by="bob")
    w.run()
    assert w.alias == "1"


def test_nobody_approves_a_version_whose_authors_nobody_knows() -> None:
    """Its run was deleted for good."""
    w = world(approval={"required": 1})
    w.register("1")
    w.until("AwaitingApproval")
    w.versions["1"] = replace(w.versions["1"], authors=None)
    name = approved(w)
    w.steps()
    assert w.answers[name][0] is DecisionOutcome.REFUSED
    assert "the run of version 1 is gone" in w.answers[name][1]
    assert w.alias is None


def test_an_author_may_approve_where_nothing_is_against_it() -> None:
    w = world(approval={"required": 1, "excludeAuthors": False})
    w.register("1")
    w.until("AwaitingApproval")
    w.author("1", "ann")
    approved(w)
    w.run()
    assert w.alias == "1"


def test_an_author_who_has_approved_counts_no_more_when_the_spec_says_so() -> None:
    w = world(approval={"required": 2, "excludeAuthors": False})
    w.register("1")
    w.until("AwaitingApproval")
    w.author("1", "ann")
    approved(w)
    w.steps()
    w.spec["approval"] = {"required": 2}
    approved(w, by="bob")
    w.steps(10)
    assert w.alias is None
    assert w.status.attempt is not None and "1 of 2 approvals" in w.status.attempt.message
    again = approved(w)
    w.steps()
    assert w.answers[again][1] == "ann is an author; approval.excludeAuthors is true"
    approved(w, by="eve")
    w.run()
    assert w.alias == "1"


def test_nor_does_an_earlier_approval_count_when_the_run_is_gone() -> None:
    w = world(approval={"required": 2, "excludeAuthors": False})
    w.register("1")
    w.until("AwaitingApproval")
    w.author("1", "ann")
    approved(w)
    w.steps()
    w.spec["approval"] = {"required": 2}
    approved(w, by="bob")
    w.steps()
    w.versions["1"] = replace(w.versions["1"], authors=None)
    w.steps(10)
    assert (w.alias, w.phase) == (None, "AwaitingApproval")


def test_nobody_lowers_what_is_required_and_agrees() -> None:
    w = world(approval={"required": 2})
    w.register("1")
    w.until("AwaitingApproval")
    approved(w, by="bob")
    w.steps()
    w.spec["approval"] = {"required": 1}
    w.annotations = {"podium.dev/spec-author": "bob"}
    w.steps(10)
    assert (w.alias, w.phase) == (None, "AwaitingApproval")
    approved(w, by="eve")
    w.run()
    assert w.alias == "1"


@pytest.mark.parametrize("phase", ["Validating", "AwaitingApproval"])
def test_a_rejection_refuses_the_version_until_a_retry(phase: str) -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3", verdict=Verdict.PENDING if phase == "Validating" else Verdict.PASS)
    w.until(phase)
    name = w.say(DecisionAction.REJECT, version="3", reason="smells")
    w.verdicts["3"] = Verdict.PASS
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.phase, w.alias) == ("Rejected", "2")
    assert "3" not in w.stages()
    w.say(DecisionAction.RETRY, version="3")
    w.until("AwaitingApproval")


@pytest.mark.parametrize(
    "said",
    [{"attempt_id": "3-000000"}, {"attempt_id": "3-000000", "version": "3"}, {"version": "2"}, {}],
    ids=["attempt", "attempt and version", "version", "nothing"],
)
def test_a_rejection_of_what_does_not_run_has_no_effect(said: dict[str, str]) -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    name = w.say(DecisionAction.REJECT, **said)
    w.steps()
    assert w.answers[name][0] is DecisionOutcome.EXPIRED
    assert w.phase == "AwaitingApproval"


def test_a_rejection_while_nothing_runs_has_no_effect() -> None:
    w = grown()
    name = w.say(DecisionAction.REJECT, version="2")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.EXPIRED
    assert (w.alias, w.phase) == ("2", "Promoted")


def test_nobody_rejects_an_attempt() -> None:
    """By its id, without a reason and without a name."""
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    assert w.status.active is not None
    w.say(DecisionAction.REJECT, attempt_id=w.status.active.id, by="")
    w.run()
    assert w.phase == "Rejected"


def test_a_rejection_after_the_move_is_refused() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    name = w.say(DecisionAction.REJECT, version="3")
    w.steps(5)
    assert w.answers[name][0] is DecisionOutcome.REFUSED


def test_a_hold_waits_before_the_move_and_not_after_it() -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    w.say(DecisionAction.HOLD)
    approved(w)
    w.run()
    assert w.alias == "2"
    w.say(DecisionAction.RELEASE)
    w.until("Verifying")
    w.say(DecisionAction.HOLD)
    w.run()
    assert (w.alias, w.phase) == ("3", "Promoted")


def test_why_a_person_decided_is_in_the_ledger() -> None:
    w = grown()
    w.say(DecisionAction.HOLD, reason="audit week", by="zoe")
    w.run()
    entry = w.status.history[-1]
    assert (entry.action, entry.reason, entry.by) == (EntryAction.HELD, "audit week", "zoe")


def test_a_retry_is_not_a_release() -> None:
    """Rejected, retried, promoted, rolled back: only a Release lets it be tried once more."""
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.verdicts["3"] = Verdict.PASS
    w.say(DecisionAction.RETRY, version="3")
    w.run()
    assert w.alias == "3"
    w.say(DecisionAction.ROLLBACK)
    w.run()
    w.say(DecisionAction.RELEASE, by="ann")
    retry = w.say(DecisionAction.RETRY, version="3")
    w.broken.add("3")
    w.run(400)
    assert w.answers[retry][0] is DecisionOutcome.REFUSED
    again = w.say(DecisionAction.RETRY, version="3")
    w.run(400)
    assert w.answers[again][0] is DecisionOutcome.REFUSED
    assert w.alias == "2"


def test_a_retry_of_what_is_not_there_is_refused() -> None:
    w = grown()
    names = [w.say(DecisionAction.RETRY, version="99"), w.say(DecisionAction.RETRY)]
    w.run()
    assert [w.answers[name][0] for name in names] == 2 * [DecisionOutcome.REFUSED]


def test_a_retry_of_a_version_that_was_never_refused_is_refused() -> None:
    w = grown()
    name = w.say(DecisionAction.RETRY, version="1")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.REFUSED


def test_a_retry_of_a_version_that_a_person_took_back_is_refused() -> None:
    """It is not in quarantine, and still only a Release lets it be tried again."""
    w = grown()
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert (w.alias, w.status.quarantined) == ("1", ())
    name = w.say(DecisionAction.RETRY, version="2")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.REFUSED
    assert w.alias == "1"


def test_force_is_refused() -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    name = w.say(DecisionAction.FORCE, version="3")
    w.steps()
    assert w.answers[name][0] is DecisionOutcome.REFUSED
    assert w.alias == "2"


def test_releasing_a_hold_does_not_try_a_refused_version_again() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.say(DecisionAction.HOLD)
    w.run()
    w.verdicts["3"] = Verdict.PASS
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "2"


@pytest.mark.parametrize("reason", [{}, {"reason": "audit week"}], ids=["without", "with"])
def test_a_hold_says_the_same_when_it_is_read_back(reason: dict[str, str]) -> None:
    w = grown()
    w.say(DecisionAction.HOLD, **reason)
    w.run()
    assert w.status.hold
    before = w.status.hold.reason
    w.status = PromotionStatus()
    w.run()
    assert w.status.hold and w.status.hold.reason == before


def test_a_hold_that_a_pin_lifted_does_not_come_back_with_a_lost_status() -> None:
    w = grown()
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert w.alias == "1"
    w.spec["candidate"] = {"version": "2"}
    w.run()
    assert (w.alias, w.status.hold) == ("2", None)
    w.status = PromotionStatus()
    w.run()
    assert w.status.hold is None


def test_a_release_of_a_version_that_is_not_quarantined_is_refused() -> None:
    w = grown()
    name = w.say(DecisionAction.RELEASE, version="1")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.REFUSED


def test_a_quarantined_version_is_tried_again_after_its_release() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.broken.clear()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "2", "a Release without a version lifts the hold, not a quarantine"
    w.say(DecisionAction.RELEASE, version="3")
    w.run()
    assert w.alias == "3"


def test_a_candidate_that_is_superseded_does_not_stay_in_staging() -> None:
    w = grown(approval={"required": 0}, supersede="Always")
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    w.register("4")
    w.until("Validating")
    w.until("AwaitingApproval")
    assert w.stages() == {"1": "Archived", "2": "Production", "4": "Staging"}


def test_a_candidate_of_an_attempt_that_drift_ended_does_not_stay_in_staging() -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    w.spec["suspend"] = True
    w.aliases["champion"] = "1"
    w.run()
    w.spec["suspend"] = False
    w.spec["candidate"] = {"version": "2"}
    w.run()
    assert (w.alias, w.stages()) == ("2", {"1": "Archived", "2": "Production"})


def test_a_version_that_somebody_put_into_staging_stays_there() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.to_stage("3", Stage.STAGING)
    w.run()
    assert w.stages()["3"] == "Staging"


def test_a_promotion_that_is_being_deleted_moves_nothing() -> None:
    """Whatever there would be to do: here a move that has begun, a decision, and a drift."""
    w = grown()
    w.register("3")
    w.until("Promoting")
    w.say(DecisionAction.ROLLBACK)
    w.aliases["champion"] = "1"
    seen = w.observe()
    assert decide(seen, w.now).status != seen.status
    metadata = structs.replace(seen.promotion.metadata, deletion_timestamp=w.now)
    gone = replace(seen, promotion=structs.replace(seen.promotion, metadata=metadata))
    decision = decide(gone, w.now)
    assert (decision.actions, decision.events) == ((), ())
    assert decision.status.attempt == seen.status.attempt
    assert decision.status.history == seen.status.history
