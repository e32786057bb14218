"""Versions that are deleted, not READY any more, archived or quarantined, and what serves then."""

from datetime import timedelta

import pytest

from podium.api.decision import DecisionAction
from podium.api.promotion import Stage
from podium.api.promotion_status import PromotionStatus, Verdict
from tests.unit.engine.iris import PINNED, TARGET, grown, world


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


def test_an_adopted_champion_that_is_deleted_gives_place_as_the_spec_says() -> None:
    w = world(
        candidate={"alias": "next"},
        aliasDriftPolicy="Revert",
        rollback={"whenUnknown": "UseArchived"},
    )
    w.register("1")
    w.to_stage("1", Stage.ARCHIVED)
    w.register("2")
    w.aliases["champion"] = "2"
    w.run()
    assert w.status.champion_version == "2"
    w.delete("2")
    w.run()
    assert (w.alias, w.served()) == ("1", {"1"})


def test_what_a_rollback_gave_up_is_not_guessed() -> None:
    w = world(
        candidate={"alias": "next"},
        aliasDriftPolicy="Revert",
        rollback={"whenUnknown": "UseArchived"},
    )
    for number in ("1", "2"):
        w.register(number)
    w.to_stage("1", Stage.ARCHIVED)
    w.aliases["champion"] = "2"
    w.run()
    w.say(DecisionAction.ROLLBACK, version="1")
    w.run()
    assert (w.alias, w.stages()["2"]) == ("1", "Archived")
    w.say(DecisionAction.RELEASE)
    w.run()
    w.delete("1")
    w.run()
    assert w.alias is None
    assert w.condition("Stalled") == ("True", "NoPreviousChampion")


def test_names_with_quotes_spaces_and_unicode() -> None:
    name = 'fleur d\'été "β" 100%'
    w = grown(model=name, targets=[PINNED])
    assert w.deployments["api"].env_value == f"models:/{name}/2"
    w.status = PromotionStatus()
    w.run()
    assert w.status.champion_version == "2"


def test_a_candidate_that_is_not_ready_any_more_before_the_move() -> None:
    w = grown()
    w.register("3", verdict=Verdict.PENDING)
    w.until("Validating")
    w.unready("3")
    w.run()
    assert (w.alias, w.phase) == ("2", "Superseded")
    assert w.status.attempt is not None
    assert w.status.attempt.reason == "VersionNotReady"


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


def test_what_was_put_back_into_production_while_no_operator_ran_is_archived() -> None:
    """MLflow names only the newest of each stage, and that is the champion."""
    w = grown()
    w.to_stage("1", Stage.PRODUCTION)
    w.restarted = True
    w.run()
    assert w.stages() == {"1": "Archived", "2": "Production"}


def test_after_a_restart_nothing_is_read_where_the_champion_before_is_archived() -> None:
    w = grown()
    w.restarted = True
    assert not w.observe().model.complete  # type: ignore[union-attr]
