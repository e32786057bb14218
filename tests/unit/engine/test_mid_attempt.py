"""What may change in mid-attempt: the spec, the gates, stages; and in which order things move."""

from dataclasses import replace
from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction
from podium.api.promotion import Stage
from podium.api.promotion_status import Verdict
from podium.engine.decide import decide
from podium.engine.decision import TransitionStage
from tests.unit.engine.iris import COMPARE, GATE, PINNED, TARGET, another, grown, moves, world
from tests.unit.engine.world import Deployment, World

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


def last(w: World, number: int) -> list[str]:
    return [f"{entry.action} {entry.to}" for entry in w.status.history[-number:]]


def waiting_for_its_deployment(**spec: object) -> tuple[World, Deployment]:
    """Version 3 has passed its gates, and its gate cannot be asked any more."""
    w = grown(**spec)
    gone = w.deployments.pop("api")
    w.register("3")
    w.until("Promoting")
    w.steps(5)
    w.verdicts["3"] = Verdict.ERROR
    return w, gone


def test_a_gate_that_cannot_be_asked_any_more_does_not_hold_an_attempt_for_ever() -> None:
    w, gone = waiting_for_its_deployment(gates=[{**GATE, "deadline": "2h"}])
    w.deployments["api"] = gone
    w.steps(10)
    w.now += timedelta(hours=1)
    w.steps(10)
    assert w.phase == "Promoting"
    w.now += timedelta(hours=1)
    w.register("4")
    w.run()
    assert last(w, 3) == ["Expired 3", "PromoteIntent 4", "Promoted 4"]


def test_each_gate_has_its_own_deadline_and_suspend_stops_it() -> None:
    other = {**GATE, "name": "other", "deadline": "2h"}
    w, _ = waiting_for_its_deployment(gates=[{**GATE, "deadline": "1h"}, other])
    w.gate_verdicts = {"accuracy": Verdict.ERROR, "other": Verdict.PASS}
    w.steps(5)
    w.now += timedelta(minutes=59)
    w.gate_verdicts = {"accuracy": Verdict.PASS, "other": Verdict.ERROR}
    w.steps(5)
    w.now += timedelta(minutes=59)
    w.steps(5)
    assert w.phase == "Promoting"
    w.spec["suspend"] = True
    w.steps(5)
    w.now += timedelta(days=1)
    w.steps(5)
    w.spec["suspend"] = False
    w.steps(5)
    assert w.phase == "Promoting"
    w.now += timedelta(hours=2)
    w.run()
    assert w.phase == "Expired"


def test_the_deadline_of_a_silent_gate_goes_on_while_another_flaps() -> None:
    limits = {"deadline": "1h"}
    other = {**GATE, **limits, "name": "other"}
    w, _ = waiting_for_its_deployment(gates=[{**GATE, **limits}, other])
    w.gate_verdicts = {"accuracy": Verdict.ERROR, "other": Verdict.PASS}
    for _ in range(2):
        for verdict in (Verdict.ERROR, Verdict.PASS):
            w.gate_verdicts["other"] = verdict
            w.steps(5)
            w.now += timedelta(minutes=20)
    w.steps(5)
    assert w.phase == "Expired"


@pytest.mark.parametrize(
    "looks",
    [
        [(0, "EE"), (5, "EP"), (9.9, "PE"), (10.1, "PE")],
        [(0, "EE"), (5, "PE"), (10.1, "PE")],
    ],
    ids=["one after the other", "one is longer silent"],
)
def test_a_gate_is_silent_for_its_own_time_only(looks: list[tuple[float, str]]) -> None:
    gates = [{**GATE, "name": "a", "deadline": "10m"}, {**GATE, "name": "b", "deadline": "11m"}]
    w, _ = waiting_for_its_deployment(gates=gates)
    began = w.now
    for minute, said in looks:
        w.now = began + timedelta(minutes=minute)
        verdicts = [Verdict.ERROR if one == "E" else Verdict.PASS for one in said]
        w.gate_verdicts = dict(zip("ab", verdicts, strict=True))
        w.steps(4)
    assert w.phase == "Promoting"
    w.now += timedelta(minutes=11)
    w.steps(4)
    assert w.phase == "Expired"


def test_what_a_gate_was_silent_before_approval_was_asked_again_does_not_count() -> None:
    w = grown(approval={"required": 1, "excludeAuthors": False}, gates=[{**GATE, "deadline": "2h"}])
    w.register("3")
    w.until("AwaitingApproval")
    w.gate_verdicts["accuracy"] = Verdict.ERROR
    attempt = w.status.active
    assert attempt is not None
    said = {"attempt_id": attempt.id, "evidence_digest": attempt.evidence_digest}
    w.say(DecisionAction.APPROVE, by="ann", **said)
    w.steps(6)
    w.spec = {**w.spec, "approval": {"required": 2, "excludeAuthors": False}}
    w.steps(3)
    assert w.phase == "AwaitingApproval"
    w.gate_verdicts.clear()
    w.now += timedelta(hours=3)
    w.steps(3)
    w.say(DecisionAction.APPROVE, by="bob", **said)
    w.gate_verdicts["accuracy"] = Verdict.ERROR
    w.steps(5)
    w.gate_verdicts.clear()
    w.run()
    assert (w.alias, w.phase) == ("3", "Promoted")


def test_a_rehearsal_that_cannot_be_asked_changes_nothing_of_it() -> None:
    rehearsal = {**GATE, "name": "rehearsal", "dryRun": True}
    w, _ = waiting_for_its_deployment(gates=[{**GATE, "deadline": "2h"}, rehearsal])
    w.gate_verdicts["rehearsal"] = Verdict.ERROR
    w.steps(5)
    before = w.writes
    w.steps(20)
    assert w.writes == before
    w.now += timedelta(hours=2)
    w.run()
    assert w.phase == "Expired"


def test_a_gate_that_can_be_asked_again_in_time_lets_it_go_on() -> None:
    w, gone = waiting_for_its_deployment()
    w.steps(5)
    w.verdicts["3"] = Verdict.PASS
    w.steps(5)
    assert w.status.attempt is not None and w.status.attempt.deadline is None
    w.deployments["api"] = gone
    w.run()
    assert w.alias == "3"


def test_a_newer_candidate_may_end_what_has_not_moved_yet() -> None:
    w, gone = waiting_for_its_deployment(supersede="Always")
    w.register("4")
    w.steps(10)
    w.deployments["api"] = gone
    w.run()
    assert last(w, 3) == ["Superseded 3", "PromoteIntent 4", "Promoted 4"]


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


# Reasons that nobody is to blame for


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
