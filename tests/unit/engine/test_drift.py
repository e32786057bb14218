"""The alias, moved or deleted by somebody else: at rest and in mid-attempt."""

from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.engine.decision import SetAlias
from tests.unit.engine.iris import PINNED, TARGET, another, grown, moves, world
from tests.unit.engine.world import World


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


@pytest.mark.parametrize("policy", ["Revert", "Adopt"])
def test_an_alias_that_somebody_deletes_in_mid_attempt_ends_it(policy: str) -> None:
    w = third(grown(), policy)
    w.verdicts["3"] = Verdict.PENDING
    w.until("Validating")
    w.step()
    del w.aliases["champion"]
    w.steps(2)
    assert (w.phase, w.status.attempt and w.status.attempt.reason) == ("Superseded", "AliasTaken")


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


def test_a_champion_in_quarantine_is_not_called_served_while_pods_serve_another_version() -> None:
    """The only champion failed its bake, and its pods started anew while the alias was away."""
    w = world(rollback={"bakeDuration": "10m"})
    w.register("1")
    w.until("Baking")
    w.deployments["api"].pods[0].failed = True
    w.run()
    w.deployments["api"].pods[0].failed = False
    w.register("2", verdict=Verdict.FAIL)
    w.run()
    w.now += timedelta(hours=1)
    w.aliases["champion"] = "2"
    w.run()
    w.restart_containers("api")
    w.aliases["champion"] = "1"
    w.run()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    assert (w.phase, w.served()) == ("Rejected", {"2"})
    assert w.condition("Ready") == ("False", "AliasDrift")
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")
    w.say(DecisionAction.RELEASE, version="1")
    w.run()
    assert (w.served(), w.condition("Ready")) == ({"1"}, ("True", "ChampionServed"))


def test_an_alias_that_is_put_right_in_a_bake_is_no_drift_for_the_rest_of_it() -> None:
    w = grown(targets=[PINNED], rollback={"bakeDuration": "5m"})
    w.register("3")
    w.until("Baking")
    w.steps(3)
    w.aliases["champion"] = "2"
    w.steps(4)
    assert (w.alias, w.phase, w.condition("Ready")[0]) == ("3", "Baking", "True")
    w.run(400)
    assert w.phase == "Promoted"
    assert "RevertIntent" not in {entry.action.value for entry in w.status.history}


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
        w.log.clear()
        w.run(400)
        assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1"), phase
        assert not any("SetAlias(to='2'" in line for line in w.log), "moves it forth again"


def test_adopt_giving_the_alias_back_to_what_failed_and_stayed_goes_back_to_it() -> None:
    """There is nothing else to go back to, and somebody says so."""
    w = world(candidate=None, rollback={"bakeDuration": "10m"}, historyLimit=20)
    w.register("1")
    w.aliases["champion"] = "1"
    w.run()
    w.spec["candidate"] = {"latest": {}}
    w.register("2")
    w.until("Baking")
    w.delete("1")
    w.restart_containers("api")
    w.run(400)
    assert [q.version for q in w.status.quarantined] == [w.status.champion_version] == ["2"]
    w.spec = {key: value for key, value in w.spec.items() if key != "candidate"}
    w.register("3")
    w.broken.add("3")
    w.aliases["champion"] = "3"
    w.until("Verifying")
    w.aliases["champion"] = "2"
    w.run(400)
    assert (w.alias, w.served(), w.status.champion_version) == ("2", {"2"}, "2")
    assert w.phase == "RolledBack"


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


def test_a_champion_that_is_not_ready_when_the_alias_comes_back_gives_place_to_a_newer() -> None:
    """Nothing else is left: no entry of the ledger without end either."""
    w = grown()
    w.say(DecisionAction.ROLLBACK)
    w.until("RollingBack")
    w.register("9", verdict=Verdict.FAIL)
    w.aliases["champion"] = "9"
    w.until("Superseded")
    w.aliases["champion"] = "2"
    for version in ("1", "2", "9"):
        w.unready(version)
    before = w.status.ledger_seq
    w.run()
    assert w.status.ledger_seq == before
    w.say(DecisionAction.RELEASE)
    w.register("10")
    w.run()
    assert (w.alias, w.served()) == ("10", {"10"})


@pytest.mark.parametrize("how", ["reject", "expire", "rollback"])
def test_what_somebody_moved_the_alias_to_in_vain_does_not_stay_in_staging(how: str) -> None:
    w = world(candidate=None, aliasDriftPolicy="Adopt", approval={"required": 1})
    w.register("1")
    w.aliases["champion"] = "1"
    w.run()
    w.register("2")
    w.aliases["champion"] = "2"
    w.until("AwaitingApproval")
    assert w.stages()["2"] == "Staging"
    if how == "expire":
        w.now += timedelta(days=30)
    elif how == "reject":
        w.say(DecisionAction.REJECT, version="2", reason="no")
    else:
        w.say(DecisionAction.ROLLBACK, version="1")
    w.run()
    assert (w.alias, w.stages().get("2")) == ("1", None)


@pytest.mark.parametrize("minutes", [0, 11])
def test_what_failed_is_archived_though_its_rollback_was_cut_short(minutes: int) -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("RollingBack", 400)
    while w.deployments["api"].model_version != "2":
        w.steps(1)
    w.now += timedelta(minutes=minutes)
    w.aliases["champion"] = "3"  # or an answer of MLflow that was old
    w.until("Superseded")
    w.aliases["champion"] = "2"
    w.run()
    assert (w.alias, w.stages()) == ("2", {"1": "Archived", "2": "Production", "3": "Archived"})


def test_what_failed_is_archived_though_a_late_request_cut_its_rollback_short() -> None:
    """Then the alias is given back by an attempt of its own, which knows nothing of the failure."""
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.until("RollingBack", 400)
    while w.deployments["api"].model_version != "2":
        w.steps(1)
    w.aliases["champion"] = "3"  # the first request, which the network had held back
    w.run()
    assert (w.alias, w.stages()) == ("2", {"1": "Archived", "2": "Production", "3": "Archived"})
