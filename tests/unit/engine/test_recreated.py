"""A registered model that is deleted and created again under its name: version 1 is another one."""

import json
from dataclasses import replace as replaced
from datetime import timedelta

import pytest
from msgspec.structs import replace

from podium.api.decision import DecisionAction
from podium.api.promotion_status import PromotionStatus, Verdict
from podium.engine import ledger
from podium.engine.observation import Claim
from tests.unit.engine.iris import GATE, PINNED, TARGET, grown, moves, world
from tests.unit.engine.world import World

APPROVAL = {"required": 1, "excludeAuthors": False}


def actions(w: World) -> list[str]:
    return [entry.action.value for entry in w.status.history]


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_a_version_of_the_new_model_is_tried_like_any_other(
    retold: None, target: dict[str, object]
) -> None:
    w = grown(targets=[target])
    before = w.status.ledger_seq
    w.create_again()
    w.register("1", verdict=Verdict.FAIL)
    w.run()
    assert (w.alias, w.phase, w.status.champion) == (None, "Rejected", None)
    w.register("2")
    w.run()
    assert (w.alias, w.served(), w.phase) == ("2", {"2"}, "Promoted")
    assert actions(w)[before:] == ["Recreated", "Rejected", "PromoteIntent", "Promoted"]
    assert [e.reason.value for e in w.events].count("ModelRecreated") == 1


def test_nobody_goes_back_to_a_version_of_the_old_model() -> None:
    w = grown()
    w.create_again()
    w.register("1", verdict=Verdict.FAIL)
    w.broken.add("2")
    w.register("2")
    w.run(400)
    assert (w.phase, w.status.attempt.reason) == ("Rejected", "NoPreviousChampion")  # type: ignore[union-attr]


@pytest.mark.parametrize("days", [30, -30], ids=["newer", "older"])
def test_a_model_that_gets_the_name_of_another_brings_its_own_ledger(days: int) -> None:
    other = world(model="iris-next")
    other.register("1")
    other.run()
    w = grown()
    w.now += timedelta(minutes=10)
    w.created_at += timedelta(days=days)
    w.versions, w.aliases, w.model_tags = other.versions, other.aliases, other.model_tags
    w.model_tags.pop(ledger.owner_tag_key("champion"))
    w.register("2", verdict=Verdict.FAIL)
    w.now += timedelta(days=31)
    w.run(400)
    assert (w.alias, w.status.champion_version, w.phase) == ("1", "1", "Rejected")


def test_the_ledger_of_another_cluster_on_the_new_model_is_read_after_a_release() -> None:
    """It was there first; our claim is older, their key is not ours."""
    w = grown()
    w.create_again()
    other = world()
    other.now = w.now
    other.register("1")
    other.run()
    w.versions, w.aliases, w.model_tags = other.versions, other.aliases, other.model_tags
    head = ledger.head_tag_key("champion")
    w.model_tags[head] = w.model_tags[head].replace('"key":"key"', '"key":"theirs"')
    theirs = Claim("c2", "ns", "p", w.now)
    w.model_tags[ledger.owner_tag_key("champion")] = ledger.encode_claim(theirs)
    w.register("2", verdict=Verdict.FAIL)
    w.now += timedelta(minutes=5)
    w.run(400)
    assert (w.alias, w.condition("Stalled")) == ("1", ("True", "LedgerBroken"))
    w.say(DecisionAction.RELEASE)
    w.run(400)
    assert (w.alias, w.status.champion_version, w.phase) == ("1", "1", "Rejected")


def test_a_status_of_before_finds_the_ledger_of_the_promotion_that_took_its_place() -> None:
    w = grown()
    before = w.status
    w.create_again()
    w.status = PromotionStatus()
    w.register("1")
    w.run()
    w.register("2", verdict=Verdict.FAIL)
    w.run()
    w.status = before
    w.now += timedelta(minutes=5)
    w.run(400)
    assert (w.alias, w.served(), w.status.champion_version) == ("1", {"1"}, "1")


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_nobody_goes_back_to_where_the_alias_only_stood(target: dict[str, object]) -> None:
    w = grown(targets=[target])
    w.create_again()
    w.register("1", verdict=Verdict.FAIL)
    w.aliases["champion"] = "1"
    w.run()
    w.broken.add("2")
    w.register("2")
    w.run(400)
    assert w.status.attempt is not None
    assert (w.phase, w.status.attempt.reason) == ("Rejected", "NoPreviousChampion")
    assert w.status.champion_version != "1"


def test_the_alias_of_the_new_model_is_no_champion_before_it_was_tried() -> None:
    w = grown()
    w.create_again()
    w.register("1", verdict=Verdict.FAIL)
    w.aliases["champion"] = "1"
    w.run()
    assert w.status.champion is None
    assert w.phase == "Rejected"
    w.verdicts["1"] = Verdict.PASS
    w.tag("1", again="true")
    w.run()
    assert (w.status.champion_version, w.alias) == ("1", "1")
    assert w.deployments["api"].move_id, "what runs has loaded the version of before"


def test_what_was_refused_or_in_quarantine_was_another_version() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.register("4", verdict=Verdict.FAIL)
    w.run()
    w.broken.clear()
    w.create_again()
    for version in "1234":
        w.register(version)
    w.run()
    assert (w.alias, w.status.quarantined) == ("4", ())
    w.spec = {**w.spec, "candidate": {"version": "3"}}
    w.run()
    assert w.alias == "3"


@pytest.mark.parametrize("phase", ["Validating", "AwaitingApproval", "Verifying", "Baking"])
def test_an_attempt_ends_with_its_model(phase: str) -> None:
    approval = APPROVAL if phase == "AwaitingApproval" else None
    bake = {"bakeDuration": "10m"} if phase == "Baking" else {}
    w = grown(rollback=bake)
    w.spec = {k: v for k, v in {**w.spec, "approval": approval}.items() if v is not None}
    verdict = Verdict.PENDING if phase == "Validating" else Verdict.PASS
    w.register("3", verdict=verdict)
    w.until(phase)
    attempt = w.status.attempt
    assert attempt is not None
    w.create_again()
    w.register("1", verdict=Verdict.FAIL)
    w.run()
    assert (w.alias, w.phase, w.status.champion) == (None, "Rejected", None)
    (entry,) = (e for e in w.status.history if e.action == "Recreated")
    assert (entry.attempt, entry.from_version) == (
        attempt.id,
        "3" if phase == "Baking" else "2",
    )


def test_a_persons_hold_outlives_the_model_and_a_lost_status() -> None:
    w = grown()
    w.say(DecisionAction.HOLD, reason="wait for the audit")
    w.run()
    w.create_again()
    w.register("1")
    w.run()
    assert (w.alias, w.condition("Stalled")) == (None, ("True", "Held"))
    w.status = PromotionStatus()
    w.run()
    assert (w.alias, w.condition("Stalled")) == (None, ("True", "Held"))
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.alias == "1"


def test_a_lost_status_is_read_back_from_there_on() -> None:
    w = grown()
    w.create_again()
    w.register("1")
    w.run()
    w.register("2")
    w.run()
    before = w.status
    w.status = PromotionStatus()
    w.run()
    assert w.status.champion_version == before.champion_version
    assert w.status.ledger_seq == before.ledger_seq
    assert w.status.model_created_at == w.created_at
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert (w.alias, w.served()) == ("1", {"1"})


def test_the_old_ledger_is_not_written_onto_the_new_versions() -> None:
    w = grown()
    before = w.status.ledger_seq
    w.create_again()
    w.register("1")
    w.register("2")
    w.run()
    found = ledger.parse_ledger(
        "iris", "champion", w.model_tags, {n: v.tags for n, v in w.versions.items()}
    )
    assert found.entries[0].seq == before + 1
    assert ledger.check(found).trouble is None
    assert actions(w)[:2] == ["PromoteIntent", "Promoted"], "an auditor reads what was before"


def test_a_decision_is_not_carried_out_again_for_the_new_model() -> None:
    w = grown()
    name = w.say(DecisionAction.HOLD)
    said = w.decisions[0]
    w.run()
    w.decisions.append(said)  # its answer was lost
    w.say(DecisionAction.RELEASE)
    w.create_again()
    w.register("1")
    w.run()
    assert w.answers[name][0].value == "Applied"
    assert (w.alias, actions(w).count("Held")) == ("1", 2)  # said, and carried over


def test_a_registry_that_was_moved_with_its_tags_is_the_same() -> None:
    w = grown()
    w.created_at = w.now + timedelta(hours=1)
    writes = w.writes
    w.run()
    assert (w.alias, w.status.champion_version) == ("2", "2")
    assert w.writes == writes + 1, "the time is remembered, nothing else"
    assert w.status.model_created_at == w.created_at


def test_older_answers_of_a_replica_move_nothing() -> None:
    """Before and after the ledger of the new model was written."""
    w = grown()
    older, created = (w.versions, w.aliases, w.model_tags), w.created_at
    w.create_again()
    w.register("1", verdict=Verdict.PENDING)
    newer, since = (w.versions, w.aliases, w.model_tags), w.created_at
    w.log.clear()
    for n in range(40):
        if n % 3:
            newer = (w.versions, w.aliases, w.model_tags)
        (w.versions, w.aliases, w.model_tags), w.created_at = older, created
        w.step()
        older = (w.versions, w.aliases, w.model_tags)
        (w.versions, w.aliases, w.model_tags), w.created_at = newer, since
        w.step()
    assert moves(w) == []
    w.verdicts["1"] = Verdict.FAIL
    w.run()
    assert (w.alias, w.status.champion, w.status.model_created_at) == (None, None, since)


@pytest.mark.parametrize("limit", [1, 10])
def test_a_standby_and_back_is_the_same_model(limit: int) -> None:
    """Made from the tags; there, more came than status shows. So it is not there after it."""
    w = grown(historyLimit=limit)
    w.broken.add("3")
    w.register("3")
    w.run(400)
    first = (dict(w.versions), dict(w.aliases), dict(w.model_tags)), w.created_at
    w.created_at += timedelta(days=30)
    for version in range(4, 20):
        w.register(str(version), verdict=Verdict.FAIL)
        w.run()
    (w.versions, w.aliases, w.model_tags), w.created_at = first
    w.broken.clear()
    w.spec["candidate"] = {"alias": "challenger"}
    w.aliases["challenger"] = "3"
    w.run()
    assert "Recreated" not in actions(w)
    assert (w.alias, [q.version for q in w.status.quarantined]) == ("2", ["3"])
    w.now += timedelta(days=20)
    w.model_tags.pop(ledger.head_tag_key("champion"))
    w.run()
    assert "Recreated" not in actions(w)
    assert (w.alias, [q.version for q in w.status.quarantined]) == ("2", ["3"])


def test_the_model_of_before_is_known_again() -> None:
    """An address of the wrong server, mended after a while; or a name that goes there and back."""
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    before = (w.versions, w.aliases, w.model_tags), w.created_at
    w.create_again()
    w.register("1")
    w.run()
    assert (w.alias, w.status.quarantined) == ("1", ())
    (w.versions, w.aliases, w.model_tags), w.created_at = before
    w.broken.clear()
    w.spec["candidate"] = {"alias": "challenger"}
    w.aliases["challenger"] = "3"
    w.now += timedelta(minutes=5)
    w.run()
    assert (w.alias, w.served(), w.status.champion_version) == ("2", {"2"}, "2")
    assert [q.version for q in w.status.quarantined] == ["3"]


def swap(w: World, other: World, days: int = 1) -> None:
    """Another model gets the name."""
    w.versions, w.aliases, w.model_tags = other.versions, other.aliases, other.model_tags
    w.model_tags.pop(ledger.owner_tag_key("champion"))
    w.created_at += timedelta(days=days)
    w.now += timedelta(days=days)


def test_a_persons_hold_outlives_a_model_that_gets_the_name_of_another() -> None:
    other = world(model="iris-next")
    for version in "1234":
        other.register(version)
        other.run()
    w = grown()
    w.say(DecisionAction.HOLD)
    w.run()
    swap(w, other)
    w.register("5")
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("4", ("True", "Held"))
    w.status = PromotionStatus()
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("4", ("True", "Held"))


@pytest.mark.parametrize("unknown", ["in status", "in the head"])
def test_a_ledger_from_before_ledgers_had_an_id_is_told_by_the_creation_time(unknown: str) -> None:
    other = world(model="iris-next")
    other.register("1")
    other.run()
    w = grown()
    if unknown == "in status":
        w.status = replace(w.status, ledger_id=None)
    else:
        head = ledger.head_tag_key("champion")
        known = json.loads(other.model_tags[head])
        del known["id"]
        other.model_tags[head] = json.dumps(known)
    swap(w, other)
    w.register("2", verdict=Verdict.FAIL)
    w.run(400)
    assert (w.alias, w.status.champion_version) == ("1", "1")


def forget_the_id(w: World, *, head: bool = False) -> None:
    """As an operator leaves it that does not know the field, or a CRD without it."""
    w.status = replace(w.status, ledger_id=None)
    if head:
        key = ledger.head_tag_key("champion")
        known = json.loads(w.model_tags[key])
        del known["id"]
        w.model_tags[key] = json.dumps(known)


def test_an_id_that_status_lost_is_that_of_the_head() -> None:
    w = grown(approval=APPROVAL)
    w.register("3")
    w.until("AwaitingApproval")
    forget_the_id(w)
    before = w.status.ledger_seq
    attempt = w.status.active
    assert attempt is not None
    w.say(
        DecisionAction.APPROVE,
        attempt_id=attempt.id,
        evidence_digest=attempt.evidence_digest,
        by="ann",
    )
    w.run()
    assert (w.alias, w.phase) == ("3", "Promoted")
    assert actions(w)[before:] == ["Approved", "PromoteIntent", "Promoted"]


@pytest.mark.parametrize("known", [True, False], ids=["with an id", "without"])
def test_a_registry_that_is_moved_in_mid_attempt_is_the_same(known: bool) -> None:
    w = grown(approval=APPROVAL)
    w.register("3")
    w.until("AwaitingApproval")
    if not known:
        forget_the_id(w, head=True)
    before = w.status.attempt
    w.created_at += timedelta(hours=1)
    w.steps(10)
    assert before is not None and w.status.attempt is not None
    assert w.status.attempt.id == before.id
    assert "Restored" not in {e.reason.value for e in w.events}


@pytest.mark.parametrize("limit", [1, 10])
def test_a_hold_that_was_released_since_does_not_come_back_with_an_older_status(limit: int) -> None:
    w = grown(historyLimit=limit)
    w.say(DecisionAction.HOLD)
    w.run()
    snapshot = w.status
    w.create_again()
    w.register("1")
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.alias, w.status.hold) == ("1", None)
    w.status = snapshot
    w.now += timedelta(minutes=5)
    w.run()
    assert (w.alias, w.status.hold, w.condition("Stalled")[0]) == ("1", None, "False")


@pytest.mark.parametrize("held", [True, False], ids=["held there too", "a bare Release"])
def test_a_release_of_the_other_model_lifts_no_hold_here(held: bool) -> None:
    w = grown()
    w.say(DecisionAction.HOLD)
    w.run()
    other = grown(model="iris-next")
    other.now = w.now + timedelta(minutes=5)
    for said in [DecisionAction.HOLD] * held + [DecisionAction.RELEASE]:
        other.say(said)
        other.run()
    swap(w, other)
    w.register("5")
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("2", ("True", "Held"))


def test_a_hold_that_the_other_model_was_given_and_relieved_of_is_not_the_one_here() -> None:
    w, other = grown(), grown(model="iris-next")
    w.say(DecisionAction.HOLD, reason="freeze")
    w.run()
    other.now = w.now + timedelta(minutes=5)
    other.say(DecisionAction.HOLD, reason="freeze")
    other.run()
    other.create_again()
    other.register("1")
    other.run()
    other.say(DecisionAction.RELEASE)
    other.run()
    swap(w, other)
    w.register("5")
    w.run()
    assert (w.alias, w.condition("Stalled")) == (other.alias, ("True", "Held"))


def test_an_earlier_hold_in_the_same_words_is_not_the_one_that_was_lifted_there() -> None:
    """A server restored from a copy: there the first hold was given and lifted."""
    w, other = grown(), grown(historyLimit=9)  # another promotion's, with an id of its own
    for said in (DecisionAction.HOLD, DecisionAction.RELEASE):
        other.say(said, reason="freeze")
        other.run()
    w.now = other.now + timedelta(minutes=5)
    w.say(DecisionAction.HOLD, reason="freeze")
    w.run()
    swap(w, other)
    w.register("5")
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("2", ("True", "Held"))


def test_a_hold_released_in_the_ledger_that_it_began_in_does_not_come_back() -> None:
    """An older status, of the model that was there for a while."""
    w = grown()
    w.say(DecisionAction.HOLD, reason="freeze")
    w.run()
    here = w.versions, w.aliases, w.model_tags
    since = w.created_at
    w.create_again()
    w.register("1")
    w.run()
    snapshot = w.status
    w.versions, w.aliases, w.model_tags = here
    w.created_at = since
    w.run()
    w.say(DecisionAction.RELEASE)
    w.run()
    w.status = snapshot
    w.register("3")
    w.run()
    assert (w.alias, w.status.hold) == ("3", None)
    assert actions(w).count("Held") == 1


def test_a_ledger_that_is_not_trusted_and_then_removed_leaves_another_model() -> None:
    other = world(model="iris-next")
    other.register("1")
    other.run()
    head = ledger.head_tag_key("champion")
    other.model_tags[head] = other.model_tags[head].replace('"key":"key"', '"key":"theirs"')
    w = grown()
    swap(w, other)
    w.register("2", verdict=Verdict.FAIL)
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")
    w.model_tags.pop(head)
    for version in w.versions:
        w.versions[version] = replaced(w.versions[version], tags={})
    w.run(400)
    assert "Recreated" in actions(w)
    assert (w.alias, w.status.champion_version) == ("1", "1")  # tried, and passed


@pytest.mark.parametrize("target", [TARGET, PINNED], ids=["alias", "version"])
def test_what_runs_has_loaded_the_other_model(target: dict[str, object]) -> None:
    other = world(model="iris-next", targets=[target])
    for version in "12":
        other.register(version)
    other.aliases["champion"] = "2"
    other.run()
    assert [entry.action.value for entry in other.status.history] == ["Adopted"]
    w = grown(targets=[target])
    before = w.deployments["api"].move_id
    swap(w, other)
    w.run()
    assert (w.alias, w.condition("Ready")) == ("2", ("True", "ChampionServed"))
    assert w.deployments["api"].move_id not in (None, before)


def test_a_soak_of_the_other_model_does_not_count() -> None:
    other = grown(model="iris-next")
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    swap(w, other, days=3)
    w.register("3", verdict=Verdict.FAIL)
    since = w.now
    w.run()
    assert w.status.candidate is not None
    assert w.status.candidate.since >= since


@pytest.mark.parametrize("odd", ["", "x" * 1000, 7])
def test_an_odd_id_in_the_head_is_none(odd: object) -> None:
    w = grown()
    head = ledger.head_tag_key("champion")
    w.model_tags[head] = json.dumps({**json.loads(w.model_tags[head]), "id": odd})
    before = w.status
    w.run()
    assert (w.status.ledger_id, w.status.ledger_seq) == (before.ledger_id, before.ledger_seq)


def test_a_server_that_does_not_say_when_it_was_created_is_believed() -> None:
    w = world(gates=[GATE])
    w.created_at = None  # type: ignore[assignment]
    w.register("1")
    w.run()
    w.create_again()
    w.created_at = None  # type: ignore[assignment]
    w.register("1", verdict=Verdict.FAIL)
    w.run()
    assert w.status.model_created_at is None
    assert "Recreated" not in actions(w)
