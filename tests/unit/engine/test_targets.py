"""Targets: which follow, which are restarted, what a bake counts of them, and what is put right."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from podium.api.decision import DecisionAction
from podium.api.ledger_entry import EntryAction
from podium.api.promotion import Stage
from podium.api.promotion_status import AttemptStatus, PromotionStatus, Verdict
from podium.api.reasons import Reason
from podium.engine.decide import decide
from podium.engine.decision import ApplyTarget
from podium.engine.observation import FailedTry, Observation, Problem, ProblemKind, TargetState
from podium.engine.steps import SOON
from tests.unit.engine.iris import PINNED, TARGET, another, grown, moves, world
from tests.unit.engine.oracle.judge import judge


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


SAID = "the API server failed (503)"
AWAY = Problem(ProblemKind.TRANSIENT, Reason.KUBERNETES_UNAVAILABLE, SAID)
REFUSED = Problem(ProblemKind.STALLED, Reason.FIELD_CONFLICT, "argocd owns it")
BEFORE, AFTER = timedelta(seconds=-20), timedelta(seconds=1)


def at_the_deadline(target: dict[str, object]) -> tuple[Observation, datetime]:
    """An alias that has moved (by version: not yet), with a target that has not."""
    w = grown(targets=[target])
    w.register("3")
    while not any(isinstance(a, ApplyTarget) for a in decide(w.observe(), w.now).actions):
        w.step()
    attempt = w.status.active
    assert attempt is not None and attempt.deadline is not None
    return w.observe(), attempt.deadline


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
@pytest.mark.parametrize(
    ("problem", "tried", "then"),
    [
        (AWAY, None, "Promoting"),
        (AWAY, BEFORE, "Promoting"),
        (AWAY, AFTER, "RollingBack"),
        (REFUSED, BEFORE, "RollingBack"),
        (REFUSED, timedelta(hours=-1), "Promoting"),  # that was another move
    ],
    ids=["not asked", "away before", "away after", "refused before", "refused long ago"],
)
def test_an_api_server_that_was_away_until_the_deadline_is_asked_after_it(
    problem: Problem, tried: timedelta | None, then: str, target: dict[str, object]
) -> None:
    """What another action met with says nothing of the target."""
    seen, deadline = at_the_deadline(target)
    now = deadline + timedelta(seconds=2)
    last = FailedTry("api", deadline + tried, problem) if tried is not None else None
    decision = decide(replace(seen, action_problem=problem, failed_try=last), now)
    assert decision.status.active is not None and decision.status.active.phase == then
    asks = any(isinstance(action, ApplyTarget) for action in decision.actions)
    assert asks == (then == "Promoting")
    if tried == BEFORE and problem is AWAY:
        late = FailedTry("api", deadline + AFTER, AWAY)
        back = replace(seen, failed_try=late, registry_back_at=now)
        decision = decide(back, now + timedelta(minutes=9))
        assert any(isinstance(action, ApplyTarget) for action in decision.actions)


def _of_two_targets() -> tuple[Observation, AttemptStatus, datetime]:
    """An alias that has moved, with two targets that have not."""
    w = grown(targets=[TARGET, another(TARGET, "web")])
    w.put_deployment("web")
    w.run()
    w.register("3")
    while len([a for a in decide(w.observe(), w.now).actions if isinstance(a, ApplyTarget)]) < 2:
        w.step()
    attempt = w.status.active
    assert attempt is not None and attempt.deadline is not None
    return w.observe(), attempt, attempt.deadline


def test_of_two_targets_the_one_whose_change_took_effect_is_not_held_against_the_other() -> None:
    """The answer was lost, after the deadline; the change itself was not."""
    seen, attempt, deadline = _of_two_targets()
    late = deadline + AFTER
    met = replace(seen, failed_try=FailedTry("api", late, AWAY))
    api = replace(seen.targets[0], model_version="3", move_id=attempt.move_id)
    decision = decide(replace(met, targets=(api, seen.targets[1])), late + AFTER)
    assert [a.target for a in decision.actions if isinstance(a, ApplyTarget)] == ["web"]
    decision = decide(met, late + AFTER)
    assert decision.status.active is not None and decision.status.active.phase == "RollingBack"


def test_a_move_is_taken_back_only_when_the_oracle_agrees() -> None:
    """Whatever was tried, of which target and when, and whatever can be read of it."""
    seen, attempt, deadline = _of_two_targets()
    ends = Counter[str]()
    problems = (None, AWAY, REFUSED)
    seconds = [timedelta(seconds=s) for s in (-3600, -20, 0, 5, 700)]
    asking = (None, timedelta(seconds=5), timedelta(seconds=700))
    for follows, unread, asked, tried, met, at, late in product(
        (None, "api", "web"), problems, asking, ("api", "web"), problems, seconds, seconds[1:]
    ):
        now = deadline + late
        if at > late:
            continue
        targets = tuple(
            replace(each, model_version="3", move_id=attempt.move_id)
            if each.name == follows
            else replace(each, problem=unread)
            for each in seen.targets
        )
        last = FailedTry(tried, deadline + at, met) if met else None
        since = now - asked if asked else None
        case = replace(seen, targets=targets, failed_try=last, unread_since=since)
        decision = decide(case, now)
        judge(case, now, decision)
        assert decision.status.active is not None
        ends[decision.status.active.phase] += 1
    assert min(ends["Promoting"], ends["RollingBack"]) > 100, ends


@pytest.mark.parametrize(
    ("problem", "asked", "then"),
    [
        (AWAY, timedelta(0), "Promoting"),
        (AWAY, timedelta(minutes=10), "RollingBack"),
        (REFUSED, timedelta(0), "RollingBack"),
    ],
)
def test_a_target_that_cannot_be_read_at_the_deadline_has_the_time_once_more(
    problem: Problem, asked: timedelta, then: str
) -> None:
    """However long the operator was away before it asked."""
    seen, deadline = at_the_deadline(TARGET)
    now = deadline + timedelta(hours=1)
    targets = (replace(seen.targets[0], problem=problem),)
    decision = decide(replace(seen, targets=targets, unread_since=now - asked), now)
    assert decision.status.active is not None and decision.status.active.phase == then
    assert not any(isinstance(action, ApplyTarget) for action in decision.actions)


MISSING = Problem(ProblemKind.WAITING, Reason.TARGET_NOT_FOUND, "no Deployment web")


@pytest.mark.parametrize(
    ("problem", "crashing", "late", "asked", "reason"),
    [
        (AWAY, False, 0, 0, None),
        (AWAY, False, 9999, 5, None),
        (AWAY, True, -300, 900, None),
        (AWAY, True, 0, 0, None),
        (AWAY, False, 0, 600, "ProgressDeadlineExceeded"),
        (AWAY, True, 0, 600, "ContainerFailed"),
        (REFUSED, False, -300, 0, None),
        (REFUSED, False, 0, 0, "ProgressDeadlineExceeded"),
        (MISSING, False, 0, 0, "ProgressDeadlineExceeded"),
        (MISSING, True, -300, 0, "ContainerFailed"),
    ],
)
def test_a_target_that_cannot_be_read_is_no_changed_template(
    problem: Problem, crashing: bool, late: int, asked: int, reason: str | None
) -> None:
    """The operator was away, and when it looks again all has rolled out but for what it cannot see;
    or a container of the other target fails. Nobody is put into quarantine unseen."""
    w = grown(targets=[TARGET, another(TARGET, "web")])
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    w.steps(2)
    seen = w.observe()
    assert seen.attempt and seen.attempt.deadline
    api, web = seen.targets
    (new,) = (pod for pod in api.pods or () if pod.move_id == api.move_id)
    new = replace(new, ready=not crashing, failed=crashing, exits=3 * crashing)
    unread = TargetState(name=web.name, deployment=web.deployment, problem=problem)
    now = seen.attempt.deadline + timedelta(seconds=late)
    since = now - timedelta(seconds=asked)
    case = replace(seen, targets=(replace(api, pods=(new,)), unread), unread_since=since)
    decision = decide(case, now)
    judge(case, now, decision)
    assert decision.status.attempt
    back = decision.status.attempt.rollback
    assert (back and back.reason) == reason
    assert decision.status.quarantined == ()
    assert (decision.status.hold is not None) == (reason is not None)
    if reason is None:
        assert decision.requeue_after == SOON


def test_what_needs_a_person_comes_before_what_ends_by_itself() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")])
    seen = w.observe()
    api, web = (replace(t, problem=p) for t, p in zip(seen.targets, (AWAY, MISSING), strict=True))
    decision = decide(replace(seen, targets=(api, web)), w.now)
    assert decision.problem == MISSING


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


@pytest.mark.parametrize(
    ("terminating", "phase"), [(True, "Promoted"), (False, "RollingBack")], ids=["ends", "stays"]
)
def test_a_move_is_over_at_its_deadline_though_an_old_pod_still_terminates(
    terminating: bool, phase: str
) -> None:
    """One that does not even terminate may get requests."""
    w = grown(rollback={"bakeDuration": "0s"})
    w.broken.add("3")
    w.register("3")
    w.until("Verifying")
    while w.deployments["api"].model_version != "3":
        w.steps(1)
    w.to_stage("3", Stage.PRODUCTION)
    w.to_stage("2", Stage.ARCHIVED)
    w.steps(2)
    seen = w.observe()
    (state,) = seen.targets
    old, new = state.pods or ()
    pods = (replace(old, terminating=terminating), replace(new, ready=True))
    settled = replace(state, pods=pods, updated=1, available=1, replicas=1)
    lingering = replace(seen, targets=(settled,))
    assert seen.attempt and seen.attempt.deadline
    for now, then in ((w.now, "Verifying"), (seen.attempt.deadline, phase)):
        attempt = decide(lingering, now).status.attempt
        assert attempt and attempt.phase.value == then


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


def test_a_target_that_goes_missing_after_the_intent_takes_all_back_at_the_deadline() -> None:
    w = grown(targets=[TARGET, another(TARGET, "web")], rollout={"progressDeadline": "30s"})
    w.register("3")
    w.until("Promoting")
    gone = w.deployments["web"]
    while w.status.active and w.status.active.move_id is None:
        w.step()
    del w.deployments["web"]
    w.steps(10)
    assert (w.phase, w.alias) == ("Promoting", "3")
    w.now += timedelta(seconds=31)
    w.step()
    attempt = w.status.active
    assert attempt is not None and attempt.rollback is not None
    assert (attempt.version, attempt.rollback.to, attempt.rollback.hold) == ("3", "2", True)
    assert attempt.rollback.reason == "ProgressDeadlineExceeded"
    assert "web" in attempt.rollback.message
    w.deployments["web"] = gone
    w.run(200)
    assert (w.alias, w.served("api"), w.served("web")) == ("2", {"2"}, {"2"})


def test_while_a_write_may_still_take_effect_nothing_is_built_on_it() -> None:
    w = grown()
    w.register("3")
    w.until("Promoting")
    decision = decide(replace(w.observe(), unsettled=True), w.now)
    assert (decision.actions, decision.requeue_after) == ((), SOON)
    assert decision.problem is not None
    assert decision.problem.reason is Reason.REGISTRY_UNAVAILABLE
    assert decision.status.attempt is not None
    assert decision.status.attempt.message == decision.problem.message


def test_what_waits_for_a_rollout_slot_says_so() -> None:
    w = grown()
    w.register("3")
    w.until("Promoting").step()  # which tells MLflow
    decision = decide(replace(w.observe(), rollout_slot=False), w.now)
    assert (decision.actions, decision.requeue_after) == ((), SOON)
    assert decision.problem is not None and decision.problem.reason is Reason.ROLLOUT_LIMIT


def test_an_adopted_champion_gets_a_move_when_its_target_is_put_right() -> None:
    w = world(candidate=None, targets=[PINNED])
    w.register("1")
    w.aliases["champion"] = "1"
    w.run()
    w.deployments["api"].env_value = "models:/iris/9"
    w.run()
    assert w.deployments["api"].env_value == "models:/iris/1"
    assert w.status.champion is not None and w.status.champion.move_id
    assert w.deployments["api"].move_id == w.status.champion.move_id


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


def test_a_target_that_is_missing_at_rest_is_looked_for_again() -> None:
    w = grown()
    w.deployments.clear()
    w.run()
    decision = w.step()
    assert decision.problem and decision.problem.reason == "TargetNotFound"
    assert decision.requeue_after and decision.requeue_after <= timedelta(minutes=5)
