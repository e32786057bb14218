"""What may change at any time: the spec, the alias, versions, Deployments, the clock."""

from dataclasses import replace
from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction
from podium.api.ledger_entry import EntryAction
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.engine.decide import decide
from podium.engine.decision import SetAlias, TransitionStage
from podium.engine.steps import SOON
from tests.unit.engine.iris import COMPARE, GATE, PINNED, TARGET, another, grown, world
from tests.unit.engine.world import World


def moves(w: World) -> list[str]:
    return [line.split("(")[0] for line in w.log if line.startswith(("SetAlias", "ApplyTarget"))]


# Order


def test_by_alias_the_alias_moves_first_then_every_target() -> None:
    w = world(targets=[TARGET, another(TARGET, "web")])
    w.register("1")
    w.run()
    assert moves(w) == ["SetAlias", "ApplyTarget", "ApplyTarget"]
    assert (w.served("api"), w.served("web")) == ({"1"}, {"1"})


def test_by_version_every_target_moves_first_then_the_alias() -> None:
    w = world(targets=[PINNED, another(PINNED, "web")])
    w.register("1")
    w.until("Verifying")
    assert moves(w) == ["ApplyTarget", "ApplyTarget"]
    w.run()
    assert moves(w) == ["ApplyTarget", "ApplyTarget", "SetAlias"]


def test_of_both_kinds_those_by_version_move_before_the_alias() -> None:
    w = world(targets=[TARGET, another(PINNED, "web")])
    w.register("1")
    w.run()
    assert [line.split("target=")[1][:5] for line in w.log if "ApplyTarget" in line] == [
        "'web'",
        "'api'",
    ]
    assert moves(w) == ["ApplyTarget", "SetAlias", "ApplyTarget"]


def test_one_bad_target_of_two_takes_both_back() -> None:
    w = grown(targets=[TARGET, another(PINNED, "web")])
    w.broken.add("3")
    w.register("3")
    w.run(400)
    assert (w.alias, w.served("api"), w.served("web")) == ("2", {"2"}, {"2"})


# Suspend and supersede


@pytest.mark.parametrize("phase", ["Validating", "AwaitingApproval"])
def test_suspend_stops_an_attempt_before_its_intent(phase: str) -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": int(phase == "AwaitingApproval")}
    w.register("3", verdict=Verdict.PENDING if phase == "Validating" else Verdict.PASS)
    w.until(phase)
    w.spec["suspend"] = True
    w.spec["approval"] = None
    w.spec = {k: v for k, v in w.spec.items() if v is not None}
    w.verdicts["3"] = Verdict.PASS
    w.run()
    assert w.alias == "2"
    w.spec["suspend"] = False
    w.run()
    assert w.alias == "3"


def test_suspend_does_not_stop_an_automatic_rollback() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.spec["suspend"] = True
    w.run(400)
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")


@pytest.mark.parametrize(
    ("policy", "phase", "ends"),
    [
        ("Always", "Validating", True),
        ("Always", "AwaitingApproval", True),
        ("BeforeApproval", "Validating", True),
        ("BeforeApproval", "AwaitingApproval", False),
        ("Never", "Validating", False),
        ("Never", "AwaitingApproval", False),
        ("Always", "Verifying", False),
    ],
)
def test_what_a_newer_candidate_ends(policy: str, phase: str, ends: bool) -> None:
    w = grown(approval={"required": 0}, supersede=policy)
    w.spec["approval"] = {"required": int(phase == "AwaitingApproval")}
    w.broken.add("3")
    w.register("3", verdict=Verdict.PENDING if phase == "Validating" else Verdict.PASS)
    w.until(phase)
    w.register("4")
    w.steps(3)
    assert w.status.attempt is not None
    assert (w.status.attempt.version != "3" or w.phase == "Superseded") == ends


@pytest.mark.parametrize("phase", ["Validating", "AwaitingApproval", "Promoting"])
def test_another_selector_ends_an_attempt_before_its_intent(phase: str) -> None:
    w = grown(approval={"required": 0}, supersede="Never")
    w.spec["approval"] = {"required": int(phase == "AwaitingApproval")}
    w.register("3", verdict=Verdict.PENDING if phase == "Validating" else Verdict.PASS)
    w.register("4")
    w.spec["candidate"] = {"version": "3"}
    if phase == "Promoting":
        w.deployments.clear()
    w.until(phase)
    w.steps()
    w.spec["candidate"] = {"version": "4"}
    w.spec["approval"] = {"required": 0}
    if phase == "Promoting":
        w.put_deployment("api")
    w.run()
    assert w.alias == "4"
    assert "3" not in w.stages()


def test_a_candidate_alias_that_moves_elsewhere_ends_the_attempt() -> None:
    w = grown()
    w.spec["candidate"] = {"alias": "challenger"}
    w.register("3", verdict=Verdict.PENDING)
    w.register("4")
    w.aliases["challenger"] = "3"
    w.until("Validating")
    w.aliases["challenger"] = "4"
    w.run()
    assert w.alias == "4"


def test_a_candidate_alias_that_is_deleted_ends_the_attempt() -> None:
    w = grown()
    w.spec["candidate"] = {"alias": "challenger"}
    w.register("3", verdict=Verdict.PENDING)
    w.aliases["challenger"] = "3"
    w.until("Validating")
    del w.aliases["challenger"]
    w.run()
    assert (w.alias, w.phase) == ("2", "Superseded")


# Targets


def test_a_target_that_is_added_in_mid_rollout_follows() -> None:
    w = grown()
    w.put_deployment("web")
    w.register("3")
    w.until("Verifying")
    w.spec["targets"] = [TARGET, another(TARGET, "web")]
    w.run()
    assert (w.served("api"), w.served("web"), w.deployments["web"].model_version) == (
        {"3"},
        {"3"},
        "3",
    )


def test_a_target_that_is_removed_in_mid_rollout_is_left_alone() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")])
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.spec["targets"] = [TARGET]
    w.run(400)
    assert (w.alias, w.served("api"), w.deployments["web"].model_version) == ("2", {"2"}, "3")


@pytest.mark.parametrize(("before", "after"), [(TARGET, PINNED), (PINNED, TARGET)])
def test_another_model_source_restarts_nothing_until_the_next_move(
    before: dict[str, object], after: dict[str, object]
) -> None:
    """Rule 8 of "One reconcile"."""
    w = grown(targets=[before])
    done = moves(w)
    w.spec["targets"] = [after]
    w.run()
    assert moves(w) == done
    assert w.condition("Ready") == ("True", "ChampionServed")
    w.register("3")
    w.run()
    assert (w.alias, w.served()) == ("3", {"3"})


def test_a_deployment_that_is_made_again_gets_the_champion_by_version() -> None:
    w = grown(targets=[PINNED])
    w.put_deployment("api")
    w.run()
    assert w.deployments["api"].env_value == "models:/iris/2"


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_a_rollout_that_somebody_undid_is_put_right(target: dict[str, object]) -> None:
    w = grown(targets=[target])
    deployment = w.deployments["api"]
    deployment.model_version, deployment.move_id = "1", "an-earlier-move"
    deployment.env_value = deployment.env_value and "models:/iris/1"
    w.start_pod("api")
    w.run()
    assert (w.served(), w.deployments["api"].model_version) == ({"2"}, "2")


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_an_operator_that_was_down_right_after_the_intent_goes_on(
    target: dict[str, object],
) -> None:
    """Nothing had been tried when the deadline passed: that is no reason to go back."""
    w = grown(targets=[target])
    w.register("3")
    while w.status.history[-1].action is not EntryAction.PROMOTE_INTENT:
        w.step()
    w.now += timedelta(hours=2)
    w.run()
    assert (w.alias, w.served(), w.phase) == ("3", {"3"}, "Promoted")


def test_a_variable_that_somebody_set_to_another_version_is_put_right() -> None:
    w = grown(targets=[PINNED])
    w.deployments["api"].env_value = "models:/iris/1"
    w.start_pod("api")
    w.run()
    assert (w.served(), w.deployments["api"].env_value) == ({"2"}, "models:/iris/2")


def test_a_rollback_waits_for_a_deployment_that_is_gone_and_goes_on_with_it() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")])
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    gone = w.deployments.pop("web")
    w.steps()
    assert w.step().requeue_after == SOON
    assert w.status.attempt is not None
    assert (w.phase, w.status.attempt.reason) == ("RollingBack", "TargetNotFound")
    assert w.served("api") == {"1"}, "it does not wait for the other one"
    w.deployments["web"] = gone
    w.run()
    assert (w.served("api"), w.served("web")) == ({"1"}, {"1"})


def test_a_rollback_that_is_killed_after_each_action_reaches_every_target() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")])
    w.say(DecisionAction.ROLLBACK)
    for _ in range(40):
        w.step(crash_after=1)
        w.now += timedelta(milliseconds=10)
    assert w.phase == "RolledBack"
    assert (w.served("api"), w.served("web")) == ({"1"}, {"1"})


def test_a_rollback_is_over_at_its_deadline_though_an_old_pod_still_terminates() -> None:
    """It is out of the Service's endpoints already."""
    w = grown()
    w.say(DecisionAction.ROLLBACK)
    while w.deployments["api"].model_version != "1":
        w.steps(1)
    seen = w.observe()
    (state,) = seen.targets
    (pod,) = state.pods or ()
    old = replace(pod, name="old", move_id="an-earlier-move", terminating=True)
    lingering = replace(seen, targets=(replace(state, pods=(pod, old)),))
    unready = replace(seen, targets=(replace(state, available=0),))
    assert seen.attempt is not None and seen.attempt.deadline is not None
    before, after = w.now, seen.attempt.deadline
    for found, now, reason in (
        (lingering, before, "RollingOut"),
        (unready, before, "RollingOut"),
        (lingering, after, None),
        (unready, after, "RollbackFailed"),
    ):
        problem = decide(found, now).problem
        assert (problem and problem.reason) == reason
    waits = decide(lingering, before).problem
    assert waits and waits.message == "going back to version 1: old pods have not ended yet"


def test_a_rollout_that_became_good_while_the_operator_was_down_is_no_failure() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.broken.clear()
    w.start_pod("api")
    w.now += timedelta(hours=2)
    w.run()
    assert (w.alias, w.phase) == ("3", "Promoted")


def test_a_gate_that_passed_while_the_operator_was_down_has_passed() -> None:
    w = grown()
    w.register("3", verdict=Verdict.PENDING)
    w.until("Validating")
    w.verdicts["3"] = Verdict.PASS
    w.now += timedelta(hours=2)
    w.run()
    assert w.alias == "3"


def test_a_bake_counts_only_what_was_observed() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking")
    w.now += timedelta(hours=2)
    w.step()
    assert w.phase == "Baking"
    w.run()
    assert w.phase == "Promoted"


def test_a_bake_counts_a_look_each_thirty_seconds() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking").steps(3)
    for _ in range(2):
        assert w.status.attempt is not None and w.status.attempt.baked_at is not None
        w.now = w.status.attempt.baked_at + timedelta(seconds=30)
        w.step()
    assert w.phase == "Promoted"


def test_a_bake_ends_when_its_time_is_over_and_not_at_the_next_look() -> None:
    w = grown(rollback={"bakeDuration": "46s"})
    w.register("3")
    w.until("Baking")
    began = w.now
    w.until("Promoted")
    assert timedelta(seconds=46) <= w.now - began < timedelta(seconds=46.5)


def test_a_bake_does_not_count_while_pods_are_not_ready_and_says_so() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking").steps(3)
    (pod,) = w.deployments["api"].pods
    pod.ready = False  # another node takes over its traffic: nobody is blamed yet
    w.step()
    assert w.status.attempt is not None
    assert w.status.attempt.message == "baking for 1m; not counted: api 0/1 ready"
    for _ in range(3):
        w.now += timedelta(seconds=15)
        w.step()
    pod.ready = True
    w.step()
    assert (w.phase, w.status.attempt.baked_seconds) == ("Baking", 0)


def test_a_clock_that_steps_back_does_not_stop_a_bake() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking")
    w.now -= timedelta(hours=2)
    back_at = w.now
    w.run()
    assert w.phase == "Promoted"
    assert w.now - back_at < timedelta(minutes=3)


# Gates


def test_a_pin_to_an_earlier_champion_is_not_compared_with_the_present_one() -> None:
    w = grown(gates=[GATE, COMPARE])
    w.gate_verdicts["better"] = Verdict.FAIL
    w.spec["candidate"] = {"version": "1"}
    w.run()
    assert (w.alias, w.served()) == ("1", {"1"})


def test_a_pin_to_an_earlier_champion_still_has_to_pass_the_other_gates() -> None:
    w = grown(gates=[GATE, COMPARE])
    w.gate_verdicts["accuracy"] = Verdict.FAIL
    w.spec["candidate"] = {"version": "1"}
    w.run()
    assert (w.alias, w.phase) == ("2", "Rejected")


def test_a_refused_version_is_tried_again_when_the_gates_change() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.verdicts["3"] = Verdict.PASS
    w.spec["gates"] = [{**GATE, "metric": {"key": "accuracy", "bound": {"min": "0.8"}}}]
    w.run()
    assert w.alias == "3"


def test_a_refused_version_is_tried_again_when_its_tags_change() -> None:
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.verdicts["3"] = Verdict.PASS
    w.tag("3", reviewed="true")
    w.run()
    assert w.alias == "3"


def test_version_numbers_are_numbers() -> None:
    w = world()
    for version in ("9", "10"):
        w.register(version)
        w.run()
    assert w.alias == "10"
    assert w.status.highest_promoted == "10"
    w.delete("10")
    w.run()
    assert w.alias == "9"


# Stages


def test_a_stage_as_candidate_is_left_there_until_it_was_tried() -> None:
    w = grown(approval={"required": 0}, candidate={"stage": "Production"})
    assert w.alias is None
    w.to_stage("1", Stage.PRODUCTION)
    w.run()
    assert w.alias == "1"
    w.to_stage("2", Stage.PRODUCTION)
    w.run()
    assert (w.alias, w.stages()) == ("2", {"1": "Archived", "2": "Production"})
    w.register("3", verdict=Verdict.FAIL)
    w.to_stage("3", Stage.PRODUCTION)
    w.run()
    assert (w.alias, w.stages()["2"], w.stages()["3"]) == ("2", "Production", "Archived")


def test_exactly_one_version_is_left_in_production() -> None:
    w = grown()
    w.to_stage("1", Stage.PRODUCTION)
    w.run()
    assert w.stages() == {"1": "Archived", "2": "Production"}


def test_a_rollback_of_a_staging_promotion_gives_the_stage_back() -> None:
    w = grown(alias="staging", stage="Staging")
    assert w.stages() == {"1": "Archived", "2": "Staging"}
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert w.aliases["staging"] == "1"
    assert w.stages() == {"1": "Staging", "2": "Archived"}


def test_a_staging_promotion_whose_champion_is_deleted_gives_the_stage_back() -> None:
    w = grown(alias="staging", stage="Staging")
    w.delete("2")
    w.run()
    assert (w.aliases, w.stages()) == ({"staging": "1"}, {"1": "Staging"})


def test_a_promotion_without_a_stage_leaves_a_version_that_failed_in_staging() -> None:
    """Somebody else brought it there."""
    w = grown(stage="None")
    w.broken.add("3")
    w.register("3")
    w.to_stage("3", Stage.STAGING)
    w.run(400)
    assert (w.alias, w.phase, w.stages()) == ("2", "RolledBack", {"3": "Staging"})


def test_at_rest_a_staging_promotion_leaves_what_another_archived() -> None:
    w = grown(alias="staging", stage="Staging")
    w.to_stage("2", Stage.ARCHIVED)
    w.run()
    assert w.stages()["2"] == "Archived"


# The alias


def third(w: World, policy: str) -> World:
    w.spec["aliasDriftPolicy"] = policy
    w.broken.add("3")
    w.register("3")
    return w


@pytest.mark.parametrize(
    ("policy", "ends_at"), [("Revert", "2"), ("Adopt", "1"), ("Hold", "1"), ("Alert", "1")]
)
@pytest.mark.parametrize("phase", ["Validating", "AwaitingApproval", "Verifying", "RollingBack"])
def test_an_alias_that_somebody_moves_in_mid_attempt(phase: str, policy: str, ends_at: str) -> None:
    w = third(grown(approval={"required": 0}), policy)
    w.spec["approval"] = {"required": int(phase == "AwaitingApproval")}
    if phase == "Validating":
        w.verdicts["3"] = Verdict.PENDING
    w.now += timedelta(minutes=10)
    w.until(phase, 400)
    w.spec["candidate"] = {"version": "2"} if policy == "Revert" else {"alias": "none"}
    w.spec["approval"] = {"required": 0}
    w.aliases["champion"] = "1"
    w.run(400)
    assert w.alias == ends_at
    if policy in ("Revert", "Adopt"):
        assert (w.served(), w.status.champion_version) == ({ends_at}, ends_at)


def test_a_quarantined_champion_is_not_given_the_alias_back() -> None:
    """I3: rolled back in its bake, and somebody moves the alias during the rollback."""
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking")
    w.register("4", verdict=Verdict.FAIL)
    w.deployments["api"].pods[0].failed = True
    w.broken.add("3")
    w.until("RollingBack")
    w.aliases["champion"] = "4"
    given: list[str] = []
    w.on_act = lambda action: given.append(action.to) if isinstance(action, SetAlias) else None
    w.run(400)
    assert given == ["2"]
    assert (w.alias, w.served()) == ("2", {"2"})


def test_adopt_giving_the_alias_back_in_mid_rollout_goes_back() -> None:
    for phase in ("Promoting", "Verifying"):
        w = world(candidate=None)
        w.aliases["champion"] = "1"
        w.register("1")
        w.register("2")
        w.run()
        w.broken.add("2")
        w.aliases["champion"] = "2"
        w.until(phase)
        while w.status.active and w.status.active.move_id is None:
            w.step()
        w.aliases["champion"] = "1"
        w.run(400)
        assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1"), phase


def test_adopt_giving_the_alias_back_after_a_lost_status_goes_back() -> None:
    w = world(candidate=None)
    w.aliases["champion"] = "1"
    w.register("1")
    w.register("2")
    w.run()
    w.broken.add("2")
    w.aliases["champion"] = "2"
    w.until("Verifying")
    w.status = PromotionStatus()
    w.until("Verifying")
    w.aliases["champion"] = "1"
    w.run(400)
    assert (w.alias, w.served()) == ("1", {"1"})


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_a_champion_that_is_deleted_is_served_no_more_by_pods_that_started_long_ago(
    target: dict[str, object],
) -> None:
    """Before the ledger says that the other one is the champion again."""
    w = grown(targets=[target])
    w.deployments["api"].pods[0].started_at -= timedelta(hours=1)
    w.delete("2")
    w.until("RolledBack")
    assert (w.alias, w.served()) == ("1", {"1"})


def test_of_two_targets_the_one_that_started_meanwhile_is_restarted() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")])
    for deployment in w.deployments.values():
        deployment.pods[0].started_at -= timedelta(hours=1)
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.restart_containers("web")
    assert w.served("web") == {"1"}
    w.run()
    assert (w.alias, w.served("api"), w.served("web")) == ("2", {"2"}, {"2"})


def test_drift_restarts_nothing_that_does_not_ask_the_alias() -> None:
    w = grown(targets=[PINNED])
    move = w.deployments["api"].move_id
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.restart_containers("api")
    w.run()
    assert (w.alias, w.served(), w.deployments["api"].move_id) == ("2", {"2"}, move)


def test_drift_restarts_nothing_that_was_taken_over_and_started_before() -> None:
    w = world()
    w.aliases["champion"] = "1"
    w.register("1")
    w.run()
    w.deployments["api"].pods[0].started_at -= timedelta(hours=1)
    w.register("2", verdict=Verdict.FAIL)
    w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.deployments["api"].move_id) == ("1", None)


@pytest.mark.parametrize(
    ("target", "model_version", "move_id", "env_value"),
    [
        (TARGET, "1", "an-earlier-move", None),
        (TARGET, "2", "an-earlier-move", None),
        (PINNED, "2", "an-earlier-move", "models:/iris/2"),
        (PINNED, "2", None, "models:/iris/1"),
    ],
    ids=["undone", "undone to the same version", "of another move", "another version set"],
)
def test_drift_is_over_only_when_the_targets_are_those_of_the_champion(
    target: dict[str, object], model_version: str, move_id: str | None, env_value: str | None
) -> None:
    """Whoever moved the alias changed the Deployment as well."""
    w = grown(targets=[target])
    deployment = w.deployments["api"]
    deployment.model_version, deployment.env_value = model_version, env_value
    deployment.move_id = move_id or deployment.move_id
    deployment.pods[0].move_id = deployment.move_id
    deployment.pods[0].started_at -= timedelta(hours=1)
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.until("RollingBack").until("RolledBack")
    assert w.status.champion is not None
    assert (deployment.model_version, deployment.move_id) == ("2", w.status.champion.move_id)
    assert w.served() == {"2"}


# Versions


def test_a_candidate_that_is_deleted_before_the_move() -> None:
    w = grown()
    w.register("3", verdict=Verdict.PENDING)
    w.until("Validating")
    w.delete("3")
    w.run()
    assert (w.alias, w.phase) == ("2", "Superseded")


@pytest.mark.parametrize("policy", ["Revert", "Adopt", "Hold", "Alert"])
@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_a_candidate_that_is_deleted_after_the_move(target: dict[str, object], policy: str) -> None:
    w = grown(targets=[target], aliasDriftPolicy=policy)
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.delete("3")
    w.run(400)
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")


def test_a_candidate_that_is_not_ready_any_more_after_the_move() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.unready("3")
    w.run(400)
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "RolledBack")


def test_a_champion_that_is_deleted_gives_place_to_the_last_good_one() -> None:
    w = grown()
    w.delete("2")
    w.run()
    assert (w.alias, w.served(), w.stages()) == ("1", {"1"}, {"1": "Production"})


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_an_only_champion_that_is_deleted_gives_place_to_the_next(
    target: dict[str, object],
) -> None:
    w = world(targets=[target])
    w.register("1")
    w.run()
    w.delete("1")
    w.run()
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")
    writes = w.writes
    w.now += timedelta(hours=1)
    w.run()
    assert w.writes == writes
    w.register("2")
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_a_destination_that_is_deleted_before_the_version_fails(target: dict[str, object]) -> None:
    w = world(targets=[target])
    w.register("1")
    w.run()
    w.broken.add("2")
    w.register("2")
    w.until("Verifying")
    w.delete("1")
    w.run(400)
    assert w.condition("Stalled")[0] == "True"
    assert w.status.ledger_seq < 12, "no endless turning back"
    w.register("3")
    w.say(DecisionAction.RELEASE)
    w.run(400)
    assert (w.alias, w.served()) == ("3", {"3"})


def test_a_destination_that_is_deleted_during_the_rollback() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.broken.add("2")
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    w.delete("2")
    w.run(400)
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")
    assert w.status.attempt is not None and w.status.attempt.rollback is not None
    assert w.status.attempt.rollback.hold, "as the person said who sent it to 2"


def test_a_first_champion_that_failed_is_still_there_after_a_lost_status() -> None:
    w = world()
    w.broken.add("1")
    w.register("1")
    w.run(400)
    w.status = PromotionStatus()
    w.run()
    assert w.status.champion_version == "1"
    w.register("2")
    w.run()
    assert (w.alias, w.served()) == ("2", {"2"})


def test_a_first_champion_in_quarantine_is_not_tried_again_by_itself() -> None:
    """I3."""
    w = world(candidate={"alias": "challenger"})
    w.broken.add("1")
    w.register("1")
    w.aliases["challenger"] = "1"
    w.run(400)
    assert [q.version for q in w.status.quarantined] == ["1"]
    w.register("2")
    w.aliases["challenger"] = "2"
    w.run()
    assert w.alias == "2"
    w.aliases["challenger"] = "1"
    w.run(400)
    assert (w.alias, w.phase) == ("2", "Promoted")


def test_a_version_quarantined_long_ago_is_no_destination() -> None:
    """Status shows the last ones; the ledger has all."""
    w = grown()
    w.register("3")
    w.run()
    w.broken.add("3")
    w.deployments["api"].pods.clear()
    w.say(DecisionAction.ROLLBACK)
    w.run()
    for version in range(4, 28):
        w.say(DecisionAction.RELEASE)
        w.broken.add(str(version))
        w.register(str(version))
        w.run(400)
    assert "4" not in [q.version for q in w.status.quarantined]
    name = w.say(DecisionAction.ROLLBACK, version="4")
    w.run()
    assert w.answers[name][0] == "Refused"
    w.spec["candidate"] = {"alias": "again"}
    w.aliases["again"] = "4"
    w.run()
    assert w.alias == "2"


def test_adopt_with_a_soak_counts_from_the_move() -> None:
    """minAge needs to know since when an adopted version is the candidate."""
    w = world(candidate=None, gates=[{"name": "soak", "minAge": {"duration": "1h"}}])
    w.aliases["champion"] = "1"
    w.register("1")
    w.register("2")
    w.run()
    moved_at = w.now
    w.aliases["champion"] = "2"
    w.verdicts["2"] = Verdict.PENDING
    w.until("Validating")
    assert w.status.candidate is not None
    assert (w.status.candidate.version, w.status.candidate.since) == ("2", moved_at)


def test_drift_that_needed_no_restart_needs_none_after_a_lost_status() -> None:
    w = grown()
    w.deployments["api"].pods[0].started_at -= timedelta(minutes=1)
    w.now += timedelta(minutes=10)
    w.aliases["champion"] = "1"
    w.run()
    move = w.deployments["api"].move_id
    w.status = PromotionStatus()
    w.run()
    assert w.deployments["api"].move_id == move


def test_a_model_that_is_deleted_and_comes_back_is_waited_for() -> None:
    w = grown()
    w.register("3", verdict=Verdict.PENDING)
    w.until("Validating")
    w.model_gone = True
    w.steps(5)
    assert w.condition("Stalled") == ("False", "ModelNotFound")
    w.model_gone = False
    w.verdicts["3"] = Verdict.PASS
    w.run()
    assert w.alias == "3"


def test_names_with_quotes_spaces_and_unicode() -> None:
    name = 'fleur d\'été "β" 100%'
    w = grown(model=name, targets=[PINNED])
    assert w.deployments["api"].env_value == f"models:/{name}/2"
    w.status = PromotionStatus()
    w.run()
    assert w.status.champion_version == "2"


def test_an_alias_that_somebody_deleted_comes_back() -> None:
    w = grown()
    del w.aliases["champion"]
    w.run()
    assert (w.alias, w.served(), w.stages()["2"]) == ("2", {"2"}, "Production")


def test_an_alias_that_somebody_deleted_is_missed_under_adopt() -> None:
    w = grown(aliasDriftPolicy="Adopt")
    w.spec["candidate"] = {"alias": "none"}
    w.now += timedelta(minutes=10)
    del w.aliases["champion"]
    w.run()
    assert w.condition("Stalled") == ("True", "AliasMissing")
    w.aliases["champion"] = "1"
    w.run()
    assert w.served() == {"1"}


@pytest.mark.parametrize("policy", ["Revert", "Adopt", "Hold", "Alert"])
def test_what_loaded_another_version_is_restarted_though_somebody_moved_the_alias_back(
    policy: str,
) -> None:
    w = grown(aliasDriftPolicy=policy)
    w.spec["candidate"] = {"alias": "none"}
    w.now += timedelta(minutes=10)
    w.verdicts["1"] = Verdict.PENDING
    w.aliases["champion"] = "1"
    w.steps(1)
    w.restart_containers("api")
    w.aliases["champion"] = "2"
    w.run()
    if policy == "Hold":
        w.say(DecisionAction.RELEASE)
        w.run()
    assert w.condition("Ready") == ("True", "ChampionServed")
    assert w.served() == {"2"}


@pytest.mark.parametrize("policy", ["Revert", "Hold", "Alert"])
def test_an_alias_given_back_while_pods_start_leaves_none_with_another_version(policy: str) -> None:
    """Pods of the new move that started meanwhile loaded the version before it."""
    w = grown(aliasDriftPolicy=policy)
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.aliases["champion"] = "2"
    w.start_pod("api")
    assert w.served() == {"2"}
    w.broken.clear()
    w.run()
    assert w.condition("Ready") == ("True", "ChampionServed")
    assert w.served() == {w.alias}


def test_an_alias_moved_forward_again_during_a_rollback() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.say(DecisionAction.ROLLBACK)
    w.broken.add("2")
    w.until("RollingBack")
    while w.deployments["api"].model_version != "2":
        w.steps(1)
    w.aliases["champion"] = "3"
    w.start_pod("api")
    w.broken.clear()
    w.run()
    assert w.condition("Ready")[0] == "True"
    assert w.served() == {w.alias} == {w.status.champion_version}


def test_a_lost_status_and_a_clock_that_stepped_back_begin_no_bake() -> None:
    w = grown()
    w.now -= timedelta(seconds=60)
    w.status = PromotionStatus()
    w.steps(5)
    assert w.phase is None


def test_a_bake_that_was_lost_with_the_status_begins_again() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking")
    w.status = PromotionStatus()
    w.until("Baking")
    w.deployments["api"].pods[0].failed = True
    w.broken.add("3")
    w.run(400)
    assert (w.alias, w.served()) == ("2", {"2"})
    assert [q.version for q in w.status.quarantined] == ["3"]


def test_a_move_that_somebody_took_off_is_carried_again_only_with_the_alias_in_place() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.aliases["champion"] = "2"
    w.put_deployment("api")
    w.broken.clear()
    w.run()
    assert w.served() == {w.alias} == {w.status.champion_version}


def test_an_alias_deleted_again_while_its_revert_starts_pods() -> None:
    w = grown()
    del w.aliases["champion"]
    before = w.deployments["api"].move_id
    for _ in range(20):
        if w.deployments["api"].move_id == before:
            w.steps(1)
    assert w.phase == "RollingBack"
    del w.aliases["champion"]
    w.start_pod("api")
    w.run()
    assert w.served() == {w.alias} == {"2"}


# Reasons that nobody is to blame for


def test_a_candidate_that_is_not_ready_any_more_before_the_move() -> None:
    w = grown()
    w.register("3", verdict=Verdict.PENDING)
    w.until("Validating")
    w.unready("3")
    w.run()
    assert (w.alias, w.phase) == ("2", "Superseded")
    assert w.status.attempt is not None
    assert w.status.attempt.reason == "VersionNotReady"


def test_a_target_that_cannot_be_changed_by_the_deadline_goes_back_and_holds() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")], rollout={"progressDeadline": "30s"})
    w.register("3")
    w.until("Verifying")
    w.deployments["web"].pods.clear()
    w.run(200)
    assert (w.alias, w.served("api")) == ("2", {"2"})
    assert w.status.hold is not None
    assert "ProgressDeadlineExceeded" in w.status.hold.reason
    assert w.status.quarantined == ()


def test_with_nothing_but_an_archived_version_a_person_chooses() -> None:
    w = world()
    w.broken.add("2")
    w.register("1")
    w.to_stage("1", Stage.ARCHIVED)
    w.register("2")
    w.run(400)
    assert w.condition("Stalled") == ("True", "NoDestination")
    name = w.say(DecisionAction.ROLLBACK, version="1")
    w.run()
    assert w.answers[name][0] == "Applied"
    assert (w.alias, w.served()) == ("1", {"1"})


def test_or_the_archived_one_is_taken_if_the_spec_says_so() -> None:
    w = world(rollback={"whenUnknown": "UseArchived"})
    w.broken.add("2")
    w.register("1")
    w.to_stage("1", Stage.ARCHIVED)
    w.register("2")
    w.run(400)
    assert (w.alias, w.served(), w.phase) == ("1", {"1"}, "RolledBack")


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_while_an_approval_is_waited_for_the_champion_is_kept_served(
    target: dict[str, object],
) -> None:
    w = grown(targets=[target])
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    deployment = w.deployments["api"]
    deployment.model_version, deployment.move_id = "1", "an-earlier-move"
    deployment.env_value = deployment.env_value and "models:/iris/1"
    w.start_pod("api")
    w.steps()
    assert (w.phase, w.served(), deployment.model_version) == ("AwaitingApproval", {"2"}, "2")
    assert w.condition("Ready") == ("True", "ChampionServed")


def test_no_pod_is_restarted_while_the_alias_is_not_at_the_champion() -> None:
    """It would load nothing, or another version: the only version is not READY any more, so that
    the alias cannot be given back either."""
    w = world()
    w.register("1")
    w.run()
    w.unready("1")
    del w.aliases["champion"]
    w.deployments["api"].move_id = "undone"
    w.log.clear()
    w.run()
    assert moves(w) == []
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")


def test_a_server_that_has_no_stages_any_more_is_asked_for_none() -> None:
    w = grown(approval={"required": 0})
    w.spec["approval"] = {"required": 1}
    w.register("3")
    w.until("AwaitingApproval")
    assert w.stages()["3"] == "Staging"
    w.say(DecisionAction.REJECT, version="3")
    w.until("Rejected")
    w.step()
    seen = w.observe()
    assert seen.model is not None
    assert TransitionStage("3", Stage.NONE) in decide(seen, w.now).actions
    without = replace(seen, model=replace(seen.model, stages_supported=False))
    assert not any(isinstance(a, TransitionStage) for a in decide(without, w.now).actions)


def test_nor_when_it_goes_back() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("RollingBack", 400)
    assert w.stages()["3"] == "Staging"
    while w.phase == "RollingBack":
        seen = w.observe()
        assert seen.model is not None
        without = replace(seen, model=replace(seen.model, stages_supported=False))
        assert not any(isinstance(a, TransitionStage) for a in decide(without, w.now).actions)
        w.steps(1)
    assert w.stages()["3"] == "Archived"


def test_a_bake_that_is_nearly_over_and_not_healthy_is_not_written_each_second() -> None:
    w = grown(rollback={"bakeDuration": "60s"})
    w.register("3")
    w.until("Baking")
    w.steps(3)
    for _ in range(2):
        w.now += timedelta(seconds=29)
        w.step()
    assert w.status.attempt is not None and w.status.attempt.baked_seconds >= 58
    (pod,) = w.deployments["api"].pods
    pod.ready = False  # another node takes over its traffic: nobody is blamed yet
    before = w.writes
    for _ in range(9):
        w.now += timedelta(seconds=1)
        decision = w.step()
        assert decision.requeue_after == timedelta(seconds=15)
    assert w.phase == "Baking"
    assert w.writes - before == 1
    assert w.status.attempt is not None and w.status.attempt.reason == "Baking"
