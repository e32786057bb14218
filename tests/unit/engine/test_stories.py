"""The main stories, told through the pure core."""

import json
from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction, DecisionOutcome
from podium.api.ledger_entry import EntryAction
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.observation import Claim, Problem, ProblemKind
from tests.unit.engine.iris import GATE, PINNED, TARGET, grown, world
from tests.unit.engine.world import START, World

pytestmark = pytest.mark.usefixtures("retold")


@pytest.fixture(params=[TARGET, PINNED], ids=["alias", "version"])
def target(request: pytest.FixtureRequest) -> dict[str, object]:
    found: dict[str, object] = request.param
    return found


def test_the_first_champion(target: dict[str, object]) -> None:
    w = world(targets=[target])
    w.register("1")
    w.run()
    assert (w.alias, w.phase, w.stages(), w.served()) == (
        "1",
        "Promoted",
        {"1": "Production"},
        {"1"},
    )
    assert w.condition("Ready") == ("True", "ChampionServed")


def test_the_second_champion_archives_the_first(target: dict[str, object]) -> None:
    w = world(targets=[target])
    w.register("1")
    w.run()
    w.register("2")
    w.run()
    assert w.alias == "2"
    assert w.stages() == {"1": "Archived", "2": "Production"}
    assert w.served() == {"2"}


def test_at_rest_nothing_is_written() -> None:
    w = grown()
    before = (w.writes, len(w.log))
    w.now += timedelta(hours=1)
    w.run()
    assert (w.writes, len(w.log)) == before


def test_a_version_that_fails_its_gate_is_refused_once() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    assert (w.alias, w.phase, w.served()) == ("2", "Rejected", {"2"})
    assert w.versions["3"].tags["podium.dev/champion/validation"] == "failed: accuracy"
    writes = w.writes
    w.now += timedelta(hours=1)
    w.run()
    assert w.writes == writes
    assert w.condition("Ready") == ("True", "ChampionServed")


def test_a_version_that_never_becomes_ready_is_rolled_back(target: dict[str, object]) -> None:
    w = grown(targets=[target])
    w.broken.add("3")
    w.register("3")
    w.run(400)
    assert (w.alias, w.phase) == ("2", "RolledBack")
    assert w.stages() == {"1": "Archived", "2": "Production", "3": "Archived"}
    assert w.served() == {"2"}
    assert [q.version for q in w.status.quarantined] == ["3"]
    assert w.condition("Ready") == ("True", "ChampionServed")


def test_with_automatic_rollback_off_a_person_takes_a_version_back() -> None:
    w = grown(rollback={"automatic": False})
    w.broken.add("3")
    w.register("3")
    w.run(400)
    assert (w.alias, w.phase) == ("3", "Verifying")
    assert w.condition("Stalled") == ("True", "NotReadyInTime")
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")


def test_a_rollback_by_decision_goes_to_the_last_archived_production_version() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    name = w.say(DecisionAction.ROLLBACK, reason="it answers nonsense")
    w.run()
    assert w.answers[name][0] is DecisionOutcome.APPLIED
    assert (w.alias, w.served()) == ("1", {"1"})
    assert w.stages()["1"] == "Production"
    assert w.stages()["2"] == "Archived"
    assert w.status.hold is not None
    w.register("4")
    w.run()
    assert w.alias == "1", "held"
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "4"


def test_a_first_champion_that_fails_stays_and_says_so() -> None:
    w = world()
    w.broken.add("1")
    w.register("1")
    w.run(400)
    assert w.alias == "1"
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")
    w.register("2")
    w.run(400)
    assert w.alias == "2"
    assert w.condition("Ready") == ("True", "ChampionServed")


def test_taking_over_a_served_alias_restarts_nothing() -> None:
    w = world()
    w.aliases["champion"] = "1"
    w.register("1")
    w.run()
    assert w.status.champion_version == "1"
    assert w.deployments["api"].move_id is None
    assert w.stages() == {"1": "Production"}


def test_drift_is_reverted_and_what_restarted_meanwhile_is_restarted() -> None:
    w = grown()
    move = w.deployments["api"].move_id
    w.deployments["api"].pods[0].started_at -= timedelta(minutes=1)
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    assert w.alias == "2"
    assert w.deployments["api"].move_id == move, "no container started meanwhile"
    w.aliases["champion"] = "1"
    w.now += timedelta(minutes=10)
    w.deployments["api"].pods[0].started_at = w.now
    w.deployments["api"].pods[0].loaded = "1"
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})
    assert w.deployments["api"].move_id != move


def test_adopt_moving_the_alias_is_all_a_user_does() -> None:
    w = world(candidate=None)
    w.aliases["champion"] = "1"
    w.register("1")
    w.register("2")
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.aliases["champion"] = "2"
    w.run()
    assert (w.status.champion_version, w.served()) == ("2", {"2"})
    assert w.stages() == {"1": "Archived", "2": "Production"}
    w.aliases["champion"] = "3"
    w.run()
    assert (w.alias, w.status.champion_version, w.served()) == ("2", "2", {"2"})


@pytest.mark.parametrize("why", ["not READY", "unknown", "quarantined"])
def test_adopt_an_alias_at_a_version_that_cannot_be_goes_back(why: str) -> None:
    w = world(candidate=None)
    w.aliases["champion"] = "1"
    w.register("1")
    w.run()
    if why != "unknown":
        w.register("2")
    if why == "not READY":
        w.unready("2")
    if why == "quarantined":
        w.broken.add("2")
        w.aliases["champion"] = "2"
        w.run(400)
        w.broken.clear()
    tried = len(w.status.history)
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.status.champion_version, w.served()) == ("1", "1", {"1"})
    assert [e.action for e in w.status.history[tried:]] == ["RevertIntent", "Reverted"]


def test_adopt_begins_when_the_version_of_the_alias_is_ready() -> None:
    w = world(candidate=None)
    w.register("1")
    w.unready("1")
    w.aliases["champion"] = "1"
    w.run()
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")
    w.register("1")
    w.run()
    assert (w.alias, w.status.champion_version, w.served()) == ("1", "1", {"1"})


def test_a_candidate_takes_the_alias_from_a_version_that_is_not_ready() -> None:
    w = world()
    w.register("1")
    w.unready("1")
    w.aliases["champion"] = "1"
    w.run()
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")
    w.register("2")
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})


@pytest.mark.parametrize("why", ["held", "suspended"])
def test_adopt_follows_nobody_while_it_is(why: str) -> None:
    w = world(candidate=None)
    w.aliases["champion"] = "1"
    w.register("1")
    w.register("2")
    w.run()
    w.spec["suspend"] = why == "suspended"
    if why == "held":
        w.say(DecisionAction.HOLD)
        w.run()
    w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.status.champion_version, w.phase) == ("2", "1", None)
    assert w.condition("Stalled") == ("True", "AliasDrift")
    w.spec["suspend"] = False
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.status.champion_version, w.served()) == ("2", {"2"})


@pytest.mark.parametrize("policy", ["Revert", "Alert"])
def test_after_a_rollback_the_champion_is_where_that_went(policy: str) -> None:
    """And not what was promoted last."""
    w = grown(aliasDriftPolicy=policy)
    w.say(DecisionAction.ROLLBACK)
    w.run()
    w.now += timedelta(minutes=10)
    del w.aliases["champion"]
    w.run()
    if policy == "Alert":
        assert w.condition("Stalled") == ("True", "AliasDrift")
        w.restart_containers("api")
        w.aliases["champion"] = "1"
        w.run()
    assert (w.alias, w.status.champion_version, w.served()) == ("1", "1", {"1"})


@pytest.mark.parametrize("policy", ["Hold", "Alert"])
def test_drift_may_be_left_alone(policy: str) -> None:
    w = grown(aliasDriftPolicy=policy)
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    assert w.alias == "1"
    assert w.condition("Stalled") == ("True", "AliasDrift")
    assert w.condition("Ready")[0] == "False"
    assert (w.status.hold is not None) == (policy == "Hold")


def test_approval_needs_the_quorum_and_the_same_evidence() -> None:
    w = world(approval={"required": 2})
    w.register("1")
    for _ in range(30):
        w.step()
        w.now += timedelta(seconds=1)
    attempt = w.status.active
    assert attempt is not None
    assert attempt.phase == "AwaitingApproval"
    right = {"attempt_id": attempt.id, "evidence_digest": attempt.evidence_digest or ""}
    wrong = w.say(DecisionAction.APPROVE, **{**right, "evidence_digest": "sha256:0"})
    first = w.say(DecisionAction.APPROVE, **right)
    again = w.say(DecisionAction.APPROVE, **right)
    for _ in range(20):
        w.step()
    assert w.answers[wrong][0] is DecisionOutcome.REFUSED
    assert w.answers[first][0] is DecisionOutcome.APPLIED
    assert w.answers[again][0] is DecisionOutcome.REFUSED
    assert w.alias is None
    w.say(DecisionAction.APPROVE, **right, by="bob")
    w.run()
    assert w.alias == "1"


def test_an_approval_that_nobody_gives_expires() -> None:
    w = world(approval={"required": 1, "expireAfter": "30s"})
    w.register("1")
    w.run(200)
    assert w.phase == "Expired"
    assert w.alias is None
    w.say(DecisionAction.RETRY, version="1")
    for _ in range(20):
        w.step()
    assert w.phase == "AwaitingApproval"


@pytest.mark.parametrize("wipe_at", range(40))
def test_wiping_status_at_any_pass_loses_nothing(wipe_at: int) -> None:
    w = world()
    w.register("1")
    w.run()
    w.broken.add("3")
    w.register("2")
    passes = 0

    def wipe(w: World) -> None:
        nonlocal passes
        passes += 1
        if passes == wipe_at:
            w.status = PromotionStatus()
            w.uid = "uid-2"

    w.on_pass = wipe
    w.run(200)
    assert (w.alias, w.served(), w.status.champion_version) == ("2", {"2"}, "2")
    w.register("3")
    w.run(400)
    assert (w.alias, w.served()) == ("2", {"2"})
    assert [q.version for q in w.status.quarantined] == ["3"]
    w.status = PromotionStatus()
    w.run()
    assert w.alias == "2"
    assert [q.version for q in w.status.quarantined] == ["3"]


def test_with_the_registry_away_nothing_changes() -> None:
    w = grown()
    actions = len(w.log)
    w.registry_problem = Problem(ProblemKind.TRANSIENT, Reason.REGISTRY_UNAVAILABLE, "gone")
    for _ in range(5):
        w.step()
    assert len(w.log) == actions
    assert w.condition("Ready")[0] == "True"
    assert w.condition("Stalled") == ("False", "RegistryUnavailable")


def test_a_newer_candidate_supersedes_only_before_the_move() -> None:
    w = grown(gates=[GATE])
    w.register("3", verdict=Verdict.PENDING)
    for _ in range(8):
        w.step()
        w.now += timedelta(seconds=1)
    assert w.phase == "Validating"
    w.register("4")
    w.run()
    assert w.alias == "4"
    assert any(e.reason is Reason.NEWER_CANDIDATE for e in w.events)


def test_a_bake_that_goes_wrong_goes_back() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")

    def fail(w: World) -> None:
        if w.phase == "Baking" and w.status.champion_version == "3":
            pod = w.deployments["api"].pods[0]
            if pod.loaded == "3" and w.status.attempt and w.status.attempt.baked_seconds > 10:
                pod.failed, pod.restarts, pod.started_at, pod.ready = True, 1, w.now, False

    w.on_pass = fail
    w.run(400)
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")
    assert w.stages()["3"] == "Archived"
    assert w.stages()["2"] == "Production"


def test_pinning_an_earlier_version_in_git_is_a_rollback() -> None:
    w = grown(approval={"required": 0})
    w.spec["candidate"] = {"version": "1"}
    w.spec["approval"] = {"required": 1}
    w.run()
    assert (w.alias, w.served()) == ("1", {"1"})


def test_suspend_takes_no_step_forward() -> None:
    w = grown()
    w.spec["suspend"] = True
    w.register("3")
    w.run()
    assert w.alias == "2"
    w.spec["suspend"] = False
    w.run()
    assert w.alias == "3"


def test_an_old_mlflow_without_aliases_takes_only_targets_by_version() -> None:
    w = world(targets=[TARGET])
    w.aliases_supported = False
    w.register("1")
    w.run()
    assert w.alias is None
    assert w.condition("Stalled") == ("True", "AliasesUnsupported")
    w.spec["targets"] = [PINNED]
    w.run()
    assert (w.alias, w.served()) == ("1", {"1"})


def test_a_pin_that_leads_nowhere_is_told_beside_the_champion_that_serves() -> None:
    w = grown()
    w.spec["candidate"] = {"version": "9"}
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})
    assert w.condition("Ready") == ("True", "ChampionServed")
    assert w.condition("Stalled") == ("False", "VersionNotFound")
    w.register("9")
    w.run()
    assert w.alias == "9"


def test_a_changed_expire_after_counts_for_the_approval_that_is_waited_for() -> None:
    w = grown()
    w.spec["approval"] = {"required": 1, "expireAfter": "72h"}
    w.register("3")
    w.until("AwaitingApproval")
    w.spec["approval"] = {"required": 1, "expireAfter": "1h"}
    w.now += timedelta(hours=2)
    w.run()
    assert (w.alias, w.phase) == ("2", "Expired")


def test_a_transition_to_staging_that_the_network_delayed_is_undone() -> None:
    """The version has served and was Archived meanwhile: in Staging a selector would find it."""
    w = grown()
    w.to_stage("1", Stage.STAGING)
    w.run()
    assert w.stages() == {"1": "Archived", "2": "Production"}
    w.now += timedelta(minutes=11)
    w.to_stage("1", Stage.STAGING)
    w.run()
    assert w.stages()["1"] == "Staging", "somebody wants it there"


def test_a_late_transition_to_staging_after_a_rollback_ends_in_archived_too() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.say(DecisionAction.ROLLBACK, reason="answers look wrong")
    w.run(400)
    assert w.phase == "RolledBack"
    w.to_stage("3", Stage.STAGING)
    w.run()
    assert w.stages() == {"1": "Archived", "2": "Production", "3": "Archived"}


def test_drift_that_a_person_releases_is_followed() -> None:
    w = grown(aliasDriftPolicy="Hold")
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    assert w.status.hold is not None
    del w.spec["candidate"]  # which would take it back
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.alias, w.status.champion_version, w.served()) == ("1", "1", {"1"})
    assert w.status.hold is None


def test_a_release_counts_for_drift_though_a_person_held_as_well() -> None:
    w = grown(aliasDriftPolicy="Hold", candidate={"alias": "none"})
    w.aliases["champion"] = "1"
    w.register("3")
    w.run()
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "3"
    w.run()
    w.say(DecisionAction.HOLD)
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.alias, w.status.champion_version, w.served()) == ("3", "3", {"3"})
    assert w.status.hold is None


def test_drift_from_what_was_taken_over_is_held() -> None:
    w = world(aliasDriftPolicy="Hold", candidate={"version": "1"})
    w.aliases["champion"] = "1"
    w.register("1")
    w.register("2")
    w.run()
    w.aliases["champion"] = "2"
    w.run()
    assert (w.status.champion_version, w.served()) == ("1", {None})
    assert w.status.hold is not None
    assert w.status.hold.version == "2"


def test_a_pin_that_lifted_a_hold_over_drift_does_not_agree_to_drift() -> None:
    """Somebody moves the alias to the version of the pin before its gates have passed."""
    w = grown(aliasDriftPolicy="Hold")
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.aliases["champion"] = "2"
    w.run()
    assert w.status.hold is not None
    w.verdicts["1"] = Verdict.PENDING
    w.spec["candidate"] = {"version": "1"}
    w.until("Validating")
    assert w.status.hold is None
    w.aliases["champion"] = "1"
    w.run()
    assert w.status.hold is not None
    assert (w.status.hold.version, w.status.champion_version) == ("1", "2")


def test_drift_that_moves_on_is_held_anew() -> None:
    """What was released is a hold over version 1, and not over whatever comes."""
    w = grown(aliasDriftPolicy="Hold")
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    w.aliases["champion"] = "3"
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.status.hold is not None
    assert w.status.hold.version == "3"


def test_a_release_does_not_count_for_later_drift() -> None:
    w = grown(aliasDriftPolicy="Hold")
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    w.aliases["champion"] = "2"
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.status.hold is None
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    assert w.status.hold is not None


def test_what_started_while_the_alias_was_elsewhere_is_restarted() -> None:
    w = grown(aliasDriftPolicy="Alert")
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    w.restart_containers("api")
    w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")
    assert w.condition("Ready") == ("True", "ChampionServed")


@pytest.mark.parametrize("went_wrong", [False, True])
def test_a_bake_is_taken_up_again_by_a_lost_status(went_wrong: bool) -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking").steps(3)
    w.now += timedelta(seconds=20)
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.steps(4)
    assert w.phase == "Baking"
    if went_wrong:
        w.deployments["api"].pods[0].failed = True
        w.deployments["api"].pods[0].ready = False
    w.run(400)
    assert w.alias == ("2" if went_wrong else "3")


def test_a_bake_that_is_over_is_not_taken_up_again() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking").steps(3)
    w.now += timedelta(seconds=60)
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run()
    assert (w.alias, w.phase) == ("3", None)


@pytest.mark.parametrize("policy", ["Adopt", "Revert"])
def test_drift_is_carried_on_by_a_lost_status(policy: str) -> None:
    w = grown(aliasDriftPolicy=policy, candidate=None if policy == "Adopt" else {"latest": {}})
    w.register("3", verdict=Verdict.PASS if policy == "Adopt" else Verdict.FAIL)
    w.run()
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "3"
    w.until("Verifying" if policy == "Adopt" else "RollingBack")
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run()
    to = "3" if policy == "Adopt" else "2"
    assert (w.alias, w.status.champion_version, w.served()) == (to, to, {to})


def test_a_rollback_by_decision_is_carried_on_by_a_lost_status() -> None:
    w = grown()
    w.say(DecisionAction.ROLLBACK, reason="answers look wrong")
    w.until("RollingBack")
    w.steps(3)
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run()
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")
    assert w.status.hold is not None


@pytest.mark.parametrize("why", ["a person", "the version"])
def test_a_lost_status_still_says_why_it_goes_back(why: str) -> None:
    w = grown()
    if why == "a person":
        w.say(DecisionAction.ROLLBACK, reason="ticket 17: answers look wrong")
    else:
        w.broken.add("3")
        w.register("3")
    w.until("RollingBack", 400)
    assert w.status.attempt is not None
    before = w.status.attempt.rollback
    w.steps(3)
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.steps(1)
    assert w.status.attempt is not None
    assert w.status.attempt.rollback == before
    w.run()
    assert w.phase == "RolledBack"
    assert (w.status.hold is not None) == (why == "a person")


def test_a_rollback_is_no_bake_to_take_up_again() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.broken.add("3")
    w.register("3")
    w.run(400)
    assert w.phase == "RolledBack"
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.steps()
    assert (w.alias, w.status.champion_version, w.phase) == ("2", "2", None)


@pytest.mark.parametrize("to", ["1", "3"])
def test_a_lost_status_knows_the_highest_that_was_promoted(to: str) -> None:
    """Version 3 serves by a person's word alone, against its gate."""
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    if to == "1":
        w.spec["candidate"] = {"version": "1"}
    else:
        w.say(DecisionAction.ROLLBACK, version="3")
    w.run()
    assert (w.alias, w.status.highest_promoted) == (to, "2")
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run()
    assert (w.status.champion_version, w.status.highest_promoted) == (to, "2")


def test_a_hold_that_a_person_lifted_does_not_come_back_with_a_lost_status() -> None:
    w = grown()
    w.say(DecisionAction.HOLD)
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.register("3")
    w.run()
    assert (w.alias, w.status.hold) == ("3", None)


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_a_quarantine_that_a_person_lifted_does_not_come_back_with_a_lost_status(
    held: bool,
) -> None:
    """Nor goes a hold, which that did not lift."""
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.register("4", verdict=Verdict.FAIL)
    if held:
        w.say(DecisionAction.HOLD, reason="audit week")
    w.say(DecisionAction.RELEASE, version="3")
    w.run()
    assert w.status.quarantined == ()
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run()
    assert w.status.quarantined == ()
    assert (w.status.hold is not None) == held


def test_a_hold_during_a_move_outlives_the_quarantine_of_its_version() -> None:
    """A pin names version 3, and promoted it is in quarantine no more."""
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.broken.clear()
    w.spec["candidate"] = {"version": "3"}
    w.until("Verifying")
    w.say(DecisionAction.HOLD, reason="audit week")
    w.run()
    assert (w.alias, w.status.quarantined) == ("3", ())
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run()
    assert w.status.quarantined == ()
    assert w.status.hold is not None


def test_an_older_status_keeps_its_claim_and_since_when_a_version_is_the_candidate() -> None:
    """An etcd that was restored from a snapshot; and a younger writer took the alias meanwhile."""
    w = grown()
    w.register("3", verdict=Verdict.PENDING)
    w.until("Validating")
    snapshot = w.status
    w.now += timedelta(hours=1)
    w.say(DecisionAction.HOLD, reason="audit week")
    w.run()
    w.status = snapshot
    younger = Claim("another", "ns", "p", w.now)
    w.model_tags[ledger.owner_tag_key("champion")] = ledger.encode_claim(younger)
    w.run()
    assert w.status.hold is not None, "read back"
    assert (w.status.claim, w.status.candidate) == (snapshot.claim, snapshot.candidate)


def test_a_first_champion_that_failed_and_stayed_is_remembered_by_the_ledger() -> None:
    w = world()
    w.broken.add("1")
    w.register("1")
    w.run(400)
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.run(400)
    assert (w.alias, w.status.champion_version) == ("1", "1")
    assert [q.version for q in w.status.quarantined] == ["1"]


def test_where_to_go_back_to_is_not_guessed_but_asked_for() -> None:
    """Version 5 was archived by others before Podium came."""
    w = world(candidate={"version": "8"}, rollback={"whenUnknown": "Hold"})
    for number in range(1, 9):
        w.register(str(number))
    w.unready("6")
    w.to_stage("5", Stage.ARCHIVED)
    w.broken.add("8")
    w.run(400)
    (message,) = (c.message for c in w.status.conditions if c.type == "Stalled")
    assert message is not None
    assert "a version: 7 (None), 5 (Archived), 4 (None), 3 (None), 2 (None)" in message


@pytest.mark.parametrize(
    ("verdict", "ends"), [(Verdict.PENDING, "Rejected"), (Verdict.ERROR, "Expired")]
)
def test_a_gate_without_a_verdict_fails_at_its_deadline(verdict: Verdict, ends: str) -> None:
    soak = {"name": "soak", "minAge": {"duration": "2h"}, "deadline": "5m"}
    w = world(gates=[soak, {**GATE, "deadline": "10m"}])
    w.gate_verdicts = {"soak": Verdict.PENDING, "accuracy": verdict}
    w.register("1")
    w.until("Validating")
    w.now += timedelta(minutes=9, seconds=59)
    w.steps()
    assert w.phase == "Validating", "a soak ends by itself"
    w.now += timedelta(seconds=1)
    w.run()
    assert (w.phase, w.alias) == (ends, None)


def test_a_person_who_changes_the_mind_twice_under_adopt_is_followed() -> None:
    """To adopt a version sends no move of the alias, so none of ours can come late."""
    w = world(candidate=None, gates=[])
    for version in "125":
        w.register(version)
    for version in "5121":
        w.now += timedelta(seconds=40)
        w.aliases["champion"] = version
        w.run()
        assert (w.alias, w.status.champion_version) == (version, version)
    assert not any(entry.action is EntryAction.REVERT_INTENT for entry in w.status.history)


@pytest.mark.parametrize("source", [TARGET, PINNED], ids=["Alias", "Version"])
def test_what_somebody_moved_the_alias_to_is_no_champion_though_nothing_is_left_to_go_back_to(
    source: dict[str, object],
) -> None:
    """The champion is deleted while the alias is taken back from a version that a gate refused."""
    w = world(targets=[source])
    w.register("1")
    w.run()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.now += timedelta(hours=1)
    w.aliases["champion"] = "3"
    w.until("RollingBack")
    w.delete("1")
    w.run()
    assert w.status.champion_version == "1"
    assert w.stages() == {}
    assert (w.condition("Ready")[0], w.condition("Stalled")) == (
        "False",
        ("True", "NoPreviousChampion"),
    )
    assert not any("ApplyTarget" in line and "'3'" in line for line in w.log)
    w.status = PromotionStatus()
    w.run()
    assert w.status.champion_version is None, "what the ledger said of 1 was deleted with it"


def test_while_suspended_nothing_is_restarted_for_an_alias_that_came_back() -> None:
    w = grown()
    w.spec["suspend"] = True
    w.run()
    w.aliases["champion"] = "1"
    w.restart_containers("api")
    w.run()
    w.aliases["champion"] = "2"
    w.run()
    assert (w.served(), w.condition("Stalled")) == ({"1"}, ("True", "AliasDrift"))
    w.spec["suspend"] = False
    w.run()
    assert (w.served(), w.condition("Ready")) == ({"2"}, ("True", "ChampionServed"))


def test_a_person_s_hold_long_ago_lets_no_drift_pass() -> None:
    w = grown(aliasDriftPolicy="Hold")
    w.say(DecisionAction.HOLD)
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    del w.aliases["champion"]
    w.run()
    assert w.status.hold is not None and "moved the alias" in w.status.hold.reason


def test_at_rest_a_head_that_somebody_changed_is_noticed() -> None:
    """The cheap look sees it, so the ledger is read; without that it was asked for forever."""
    w = grown()
    key = ledger.head_tag_key("champion")
    head = json.loads(w.model_tags[key])
    w.model_tags[key] = json.dumps({**head, "hash": "sha256:" + "0" * 64})
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")


def test_the_time_of_each_stage_is_a_tag_of_its_version() -> None:
    w = grown()
    expected = {"1": ["archived", "production", "staging"], "2": ["production", "staging"]}
    for version, names in expected.items():
        found = w.versions[version].tags
        tags = sorted(tag for tag in found if tag.endswith("-at"))
        assert tags == [f"podium.dev/champion/{name}-at" for name in names]
        assert all(START.isoformat()[:10] in found[tag] for tag in tags)
