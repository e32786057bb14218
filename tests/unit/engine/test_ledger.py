"""The ledger in MLflow as it may be found: pruned, cut, forged, foreign, and much too long."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from podium.api.decision import DecisionAction, DecisionOutcome
from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion_status import ApprovalStatus, Origin, Phase, PromotionStatus, Verdict
from podium.api.reasons import Reason
from podium.api.values import write
from podium.engine import ledger
from podium.engine.attempts import NAME_SHOWN, begin, turn_back
from podium.engine.decision import MirrorEntry
from podium.engine.observation import LedgerState, Observation, Problem, ProblemKind
from podium.engine.restoring import trusted_keys
from podium.engine.steps import clip
from podium.engine.summary import summarize
from podium.gates.evaluate import evaluate_all
from podium.gates.facts import GateFacts, VersionFacts
from podium.runtime.signing import Signer, Verifier
from tests.unit.engine.iris import PINNED, another, grown, world
from tests.unit.engine.world import World

HEAD, OWNER = ledger.head_tag_key("champion"), ledger.owner_tag_key("champion")


def state(w: World) -> LedgerState:
    tags = {number: v.tags for number, v in w.versions.items()}
    return ledger.parse_ledger("iris", "champion", w.model_tags, tags)


def written(w: World) -> tuple[LedgerEntry, ...]:
    return state(w).entries


def test_a_whole_chain_verifies() -> None:
    w = grown()
    chain = ledger.check(state(w))
    assert chain.trouble is None
    assert [e.seq for e in chain.entries] == [1, 2, 3, 4]
    assert (chain.seq, chain.head) == (w.status.ledger_seq, w.status.ledger_head)


def test_the_hash_of_an_entry_stays_what_it_was() -> None:
    """Ledgers outlive releases: another hash of the same entry would make all of them broken."""
    entry = LedgerEntry(
        seq=7,
        time=datetime(2026, 3, 1, 14, 3, tzinfo=UTC),
        action=EntryAction.PROMOTED,
        model="iris",
        alias="champion",
        from_version="1",
        to="2",
        attempt="2-a1b2c3",
        move_id="0123456789",
        reason="Candidate",
        evidence="sha256:e",
        spec="sha256:s",
        candidate="sha256:c",
        operator="0.1.0",
        previous="sha256:p",
        hash="x",
        signature="y",
    )
    known = "sha256:21e1ff95e4a9b9a0e85c08e06792511e2f3c8b4fe5ab4c334b56776e4595c9b1"
    assert ledger.entry_hash(entry) == known
    abroad = structs.replace(entry, reason="zur\u00fcck")
    known = "sha256:05c525ce812645999503354e4466aa155b7586467759e1c98f374580779a3af7"
    assert ledger.entry_hash(abroad) == known


def test_an_entry_in_any_script_fits_into_a_tag() -> None:
    """MLflow's databases take 5,000 characters or more; escaped, each of these would be six."""
    w = grown()
    w.say(DecisionAction.HOLD, reason="\u4e2d" * 512)
    w.run()
    assert len(ledger.encode_entry(w.status.history[-1])) < 1000


def test_a_reason_is_cut_at_512_bytes() -> None:
    w = grown()
    w.say(DecisionAction.HOLD, reason="a" * 600)
    w.run()
    assert len(w.status.history[-1].reason.encode()) == 512


def test_entries_of_a_deleted_version_are_missing_not_broken() -> None:
    w = grown()
    w.register("3")
    w.run()
    w.delete("2")
    chain = ledger.check(state(w))
    assert chain.trouble is None
    assert [e.seq for e in chain.entries] == [1, 2, 5, 6]


def test_an_entry_whose_head_was_not_written_any_more_counts() -> None:
    w = grown()
    last = written(w)[-1]
    before = {e.seq: e for e in written(w)}[last.seq - 1]
    w.model_tags[HEAD] = ledger.encode_head(before, LedgerState(signer="key"), None)
    chain = ledger.check(state(w))
    assert (chain.seq, chain.entries[-1]) == (last.seq, last)


def test_a_linked_entry_that_is_badly_signed_is_named() -> None:
    found = state(grown())
    third = found.entries[2]
    chain = ledger.check(replace(found, bad_signatures=frozenset({third})))
    assert chain.trouble == "the signature of entry 3 does not verify"
    assert [e.seq for e in chain.entries] == [1, 2, 4]


def test_after_a_release_the_ledger_goes_on_where_it_ended() -> None:
    w = grown()
    key = ledger.entry_tag_key("champion", 1)
    w.tag("1", **{key: w.versions["1"].tags[key].replace("Candidate", "Another")})
    end = w.status.ledger_head
    w.status = PromotionStatus(claim=w.status.claim)
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")
    w.say(DecisionAction.RELEASE)
    w.steps(3)
    assert w.status.history[0].previous == end


def test_an_entry_that_was_changed_is_found() -> None:
    found = state(grown())
    forged = structs.replace(found.entries[1], reason="it was fine")
    entries = (found.entries[0], forged, *found.entries[2:])
    trouble = ledger.check(replace(found, entries=entries)).trouble
    assert trouble == "entry 2 was changed after it was written"


def test_an_entry_that_was_put_in_place_of_another_is_found() -> None:
    found = state(grown())
    forged = structs.replace(found.entries[1], reason="it was fine")
    forged = structs.replace(forged, hash=ledger.entry_hash(forged))
    entries = (found.entries[0], forged, *found.entries[2:])
    trouble = ledger.check(replace(found, entries=entries)).trouble
    assert trouble == "entry 2 does not fit the chain"


def test_one_changed_entry_takes_no_other_with_it() -> None:
    found = state(grown())
    forged = structs.replace(found.entries[0], reason="it was fine")
    chain = ledger.check(replace(found, entries=(forged, *found.entries[1:])))
    assert chain.trouble == "entry 1 was changed after it was written"
    assert [e.seq for e in chain.entries] == [2, 3, 4]


def test_a_refusal_stands_though_another_entry_was_changed() -> None:
    """It is not in status any more, only in MLflow."""
    w = grown()
    w.register("3", verdict=Verdict.FAIL)
    w.run()
    w.verdicts["3"] = Verdict.PASS
    for _ in range(11):
        w.say(DecisionAction.HOLD, reason="a look")
        w.run()
        w.say(DecisionAction.RELEASE)
        w.run()
    key = ledger.entry_tag_key("champion", 1)
    w.tag("1", **{key: w.versions["1"].tags[key].replace("PromoteIntent", "Promoted")})
    w.now += timedelta(hours=1)
    w.run()
    assert w.alias == "2"


def copied(w: World, source: World, number: str, as_number: str) -> None:
    """As MLflow's copy_model_version: with all tags."""
    w.register(as_number)
    w.tag(as_number, **source.versions[number].tags)


def test_a_version_copied_from_another_model_brings_no_ledger_with_it() -> None:
    staging = grown(model="iris-staging")
    w = world(model="iris-prod")
    w.run()
    copied(w, staging, "2", "1")
    w.verdicts["1"] = Verdict.FAIL
    w.run()
    assert (w.alias, w.phase) == (None, "Rejected")
    w = grown()
    copied(w, staging, "2", "3")
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("3", ("False", "ChampionServed"))


def test_nor_where_its_number_is_that_of_a_version_of_before() -> None:
    """And all between is gone, so that the chain does not tell what belongs to it."""
    other = world(model="other")
    other.register("1")
    other.run()
    w = world(candidate={"latest": {"matchTags": {"reviewed": "true"}}})
    copied(w, other, "1", "1")
    for version in "2345":
        w.register(version, reviewed="true")
        w.run()
    for version in "234":
        w.delete(version)
    name = w.say(DecisionAction.ROLLBACK)
    w.run()
    assert (w.answers[name][0], w.alias) == (DecisionOutcome.REFUSED, "5")


def test_a_model_that_is_renamed_keeps_its_ledger() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    assert [q.version for q in w.status.quarantined] == ["3"]
    w.spec["model"] = "fleur"
    w.broken.clear()
    w.status = PromotionStatus(claim=w.status.claim)
    w.run()
    assert (w.status.champion_version, w.alias) == ("2", "2")
    assert [q.version for q in w.status.quarantined] == ["3"]


def test_nor_when_a_version_of_its_new_name_is_deleted() -> None:
    """The chain from the head then has a gap just where the name changed."""
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.spec["model"] = "fleur"
    w.status = PromotionStatus(claim=w.status.claim)
    for version in ("4", "5"):
        w.register(version)
        w.run()
    w.delete("4")
    w.status = PromotionStatus(claim=w.status.claim)
    w.run()
    assert (w.status.champion_version, w.alias) == ("5", "5")
    assert [q.version for q in w.status.quarantined] == ["3"]


def test_nor_when_its_newest_version_is_deleted_before() -> None:
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    w.register("4", verdict=Verdict.FAIL)
    w.run()
    w.delete("4")
    w.spec["model"] = "fleur"
    w.broken.clear()
    w.status = PromotionStatus(claim=w.status.claim)
    w.run()
    assert (w.status.champion_version, w.alias) == ("2", "2")
    assert [q.version for q in w.status.quarantined] == ["3"]


def test_a_copy_from_a_new_model_of_the_earlier_name_brings_no_ledger_with_it() -> None:
    other = grown()
    for version in "3456":
        other.register(version)
        other.run()
    w = grown()
    w.spec["model"] = "fleur"
    w.status = PromotionStatus(claim=w.status.claim)
    w.register("3")
    w.run()
    w.verdicts["4"] = Verdict.FAIL
    copied(w, other, "6", "4")
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("4", ("False", "ChampionServed"))


def test_a_key_that_somebody_put_into_the_head_counts_only_when_a_person_is_asked() -> None:
    w = grown()
    w.model_tags[HEAD] = w.model_tags[HEAD].replace('"key":"key"', '"key":"eve"')
    seen = w.observe()
    assert trusted_keys(seen) == {"key"}
    bare = structs.replace(seen.promotion, status=PromotionStatus())
    assert trusted_keys(replace(seen, promotion=bare)) == {"key", "eve"}


@pytest.mark.parametrize(("key", "changed"), [("eve", True), ("x" * 1000, False)])
def test_a_key_of_which_nothing_is_believed_is_not_remembered(key: str, changed: bool) -> None:
    """Nor one that status could not hold."""
    w = grown()
    last = written(w)[-1]
    forged = structs.replace(last, seq=last.seq + 1, previous="sha256:of-nobody")
    w.model_tags[HEAD] = ledger.encode_head(forged, LedgerState(signer=key), None)
    if changed:
        first = ledger.entry_tag_key("champion", 1)
        w.tag("1", **{first: w.versions["1"].tags[first].replace("Candidate", "Another")})
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")
    w.say(DecisionAction.RELEASE)
    w.run()
    assert w.condition("Stalled")[0] == "False"
    assert w.status.former_signers == ()


class Keyed(World):
    """Signs and verifies as the runtime does."""

    signer = Signer(Ed25519PrivateKey.generate())
    verifier = Verifier()

    def _look(self, *, complete: bool) -> Observation:
        seen = super()._look(complete=complete)
        own = replace(seen.ledger, signer=self.signer.public)
        keys = trusted_keys(replace(seen, ledger=own))
        bad = self.verifier.bad(own.entries, keys)
        return replace(seen, ledger=replace(own, bad_signatures=bad))

    def perform(self, action: object) -> bool:
        if not isinstance(action, MirrorEntry):
            return super().perform(action)
        signed = tuple(self.signer.sign(entry) for entry in self.status.history)
        self.status = structs.replace(self.status, history=signed)
        (entry,) = (e for e in signed if e.seq == action.entry.seq)
        done = super().perform(MirrorEntry(entry))
        self.model_tags[HEAD] = ledger.encode_head(
            entry, LedgerState(signer=self.signer.public), None
        )
        return done

    def _intended(self, to: str) -> bool:
        return True


@pytest.mark.parametrize("lost", ["status too", "only the key"])
def test_what_was_signed_with_an_earlier_key_still_counts(lost: str) -> None:
    """A person refused 3, and the next ones filled the history that status shows."""
    w = Keyed(grown(candidate={"alias": "challenger"}, historyLimit=2).spec)
    for version in "12":
        w.register(version)
        w.aliases["challenger"] = version
        w.run()
    w.register("3", verdict=Verdict.PENDING)
    w.aliases["challenger"] = "3"
    w.until("Validating")
    w.say(DecisionAction.REJECT, version="3")
    w.run()
    w.verdicts["3"] = Verdict.PASS
    for version in ("4", "5", "6"):
        w.register(version, verdict=Verdict.FAIL)
        w.aliases["challenger"] = version
        w.run()
        if version == "4":
            w.signer = Signer(Ed25519PrivateKey.generate())
        if version == "4" and lost == "status too":
            w.status = PromotionStatus()
            w.run()
            assert w.condition("Stalled") == ("True", "LedgerBroken")
            w.say(DecisionAction.RELEASE)
            w.run()
    assert "3" not in {entry.to for entry in w.status.history}
    w.aliases["challenger"] = "3"
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("2", ("False", "CandidateBlocked"))
    w.say(DecisionAction.ROLLBACK)
    w.run()
    assert w.alias == "1"


def test_a_key_that_leaked_is_trusted_no_more_once_it_is_taken_out_of_status() -> None:
    """As docs/operations.md has it: another Secret, then status without the old key."""
    w = Keyed(grown(historyLimit=2).spec)
    leaked = w.signer
    for version in "123":
        w.register(version)
        w.run()
    w.signer = Signer(Ed25519PrivateKey.generate())
    assert leaked.public in trusted_keys(w.observe())
    w.status = structs.replace(w.status, signer=None, former_signers=())
    w.register("4", verdict=Verdict.FAIL)
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("3", ("False", "CandidateBlocked"))
    assert trusted_keys(w.observe()) == {w.signer.public}
    w.status = PromotionStatus()
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("3", ("True", "LedgerBroken"))
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("3", ("False", "CandidateBlocked"))
    assert trusted_keys(w.observe()) == {w.signer.public}


def test_an_older_status_knows_an_earlier_key_too() -> None:
    """etcd restored from a snapshot of before the Secret was replaced."""
    w = Keyed(grown().spec)
    earlier = w.signer.public
    for version in "12":
        w.register(version)
        w.run()
    snapshot = w.status
    w.signer = Signer(Ed25519PrivateKey.generate())
    w.register("3")
    w.run()
    w.status = snapshot
    w.run()
    assert w.status.champion_version == "3"
    assert {earlier, w.signer.public} <= trusted_keys(w.observe())


def test_a_model_that_is_created_again_leaves_the_earlier_keys_known() -> None:
    """An address of the wrong server, mended after a while: what they signed is there again."""
    w = Keyed(grown().spec)
    earlier = w.signer.public
    w.register("1")
    w.run()
    w.signer = Signer(Ed25519PrivateKey.generate())
    w.register("2")
    w.run()
    w.create_again()
    w.register("1")
    w.run()
    assert w.status.champion_version == "1"
    assert earlier in trusted_keys(w.observe())


def test_below_a_gap_only_what_is_well_signed_counts() -> None:
    found = state(grown())
    stranger = structs.replace(found.entries[1], previous="sha256:of-nobody")
    stranger = structs.replace(stranger, hash=ledger.entry_hash(stranger))
    entries = (found.entries[0], stranger, found.entries[3])
    chain = ledger.check(replace(found, entries=entries, bad_signatures=frozenset({stranger})))
    assert chain.entries == (found.entries[0], found.entries[3])
    assert chain.trouble == "the signature of entry 2 does not verify"


def test_of_two_entries_that_claim_one_place_the_well_signed_one_has_it() -> None:
    """Here the earlier one that links to it is gone, so that the chain cannot tell."""
    found = state(grown())
    forged = structs.replace(found.entries[0], reason="of another key")
    forged = structs.replace(forged, hash=ledger.entry_hash(forged))
    entries = (forged, found.entries[0], *found.entries[2:])
    chain = ledger.check(replace(found, entries=entries, bad_signatures=frozenset({forged})))
    assert (chain.trouble, chain.entries[0]) == (None, found.entries[0])


@pytest.mark.parametrize("tag", [HEAD, OWNER, ledger.entry_tag_key("champion", 99)])
@pytest.mark.parametrize("text", ["[" * 4000, '{"cluster": "\\ud800", "reason": "\\ud800"}'])
def test_what_nobody_can_read_is_passed_over(tag: str, text: str) -> None:
    w = grown()
    if tag in (HEAD, OWNER):
        w.model_tags[tag] = text
    else:
        w.tag("2", **{tag: text})
    w.register("3")
    w.run()
    assert w.alias == "3"


def test_what_is_badly_signed_is_not_believed() -> None:
    w = grown()
    seen = w.observe()
    forged = frozenset(seen.ledger.entries)
    bare = replace(
        seen,
        promotion=structs.replace(seen.promotion, status=structs.replace(seen.status, history=())),
        ledger=replace(seen.ledger, bad_signatures=forged),
    )
    assert ledger.known(bare) == ()


ODD_HEADS = [
    "",
    "no JSON",
    "null",
    "[]",
    "7",
    '{"seq": 3}',
    '{"seq": "three", "hash": "x", "key": "k"}',
    '{"seq": Infinity, "hash": "x", "key": "k"}',
    '{"seq": NaN, "hash": "x", "key": "k"}',
    '{"seq": -1, "hash": "x", "key": "k"}',
]


@pytest.mark.parametrize("text", ODD_HEADS)
def test_a_head_that_is_none_is_written_again(text: str) -> None:
    w = grown()
    w.model_tags[HEAD] = text
    w.register("3")
    w.run()
    assert w.alias == "3"
    assert json.loads(w.model_tags[HEAD])["seq"] == w.status.ledger_seq


def test_a_head_that_claims_a_million_entries_takes_no_time() -> None:
    w = grown()
    head = {"seq": 10**15, "hash": "sha256:0", "key": "key"}
    w.model_tags[HEAD] = json.dumps(head)
    chain = ledger.check(state(w))
    assert (chain.seq, chain.trouble) == (10**15, None)


@pytest.mark.parametrize("written", [1, 2])
def test_status_that_is_lost_between_the_entries_of_a_rollback_loses_no_hold(written: int) -> None:
    w = grown()
    w.say(DecisionAction.ROLLBACK)
    while not any(isinstance(action, MirrorEntry) for action in w.step(crash_after=0).actions):
        w.now += timedelta(milliseconds=10)
    w.step(crash_after=written)
    w.status = PromotionStatus()
    w.run()
    assert (w.alias, w.phase) == ("1", "RolledBack")
    w.register("3")
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("1", ("True", "Held"))


@pytest.mark.parametrize("where", ["head", "entry"])
def test_a_number_that_no_status_takes_is_said_and_goes_with_its_tag(where: str) -> None:
    w = grown()
    before = dict(w.model_tags)
    last = structs.replace(w.status.history[-1], seq=2**63, hash="")
    last = structs.replace(last, hash=ledger.entry_hash(last))
    head = json.dumps({"seq": 2**63, "hash": last.hash, "key": "key"})
    entry = {ledger.entry_tag_key("champion", 2**63): ledger.encode_entry(last)}
    w.model_tags |= {HEAD: head} if where == "head" else entry
    w.register("3")
    w.say(DecisionAction.RELEASE)
    w.run()
    assert (w.alias, w.condition("Stalled")) == ("2", ("True", "LedgerBroken"))
    w.model_tags = before
    w.run()
    assert (w.alias, w.condition("Stalled")[0]) == ("3", "False")


ODD_CLAIMS = ["", "null", "{}", "[1]", '"me"', '{"cluster": "c", "namespace": "n", "name": "p"}']


@pytest.mark.parametrize("text", ODD_CLAIMS)
def test_a_claim_that_is_none_claims_nothing(text: str) -> None:
    w = grown()
    w.model_tags[OWNER] = text
    w.register("3")
    w.run()
    assert w.alias == "3"


def test_a_claim_whose_time_has_no_zone_is_an_older_claim() -> None:
    w = grown()
    claim = {"cluster": "c", "namespace": "n", "name": "p", "since": "2020-01-01T00:00:00"}
    w.model_tags[OWNER] = json.dumps(claim)
    w.run()
    assert w.condition("Stalled") == ("True", "AliasClaimed")


@pytest.mark.parametrize("uid", [None, "another"])
def test_an_unknown_signer_stalls_until_a_release(uid: str | None) -> None:
    w = grown()
    w.status = PromotionStatus()
    head = {**json.loads(w.model_tags[HEAD]), "key": "somebody else's"}
    w.model_tags[HEAD] = json.dumps(head)
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")
    w.say(DecisionAction.RELEASE, to_uid=uid)
    w.run()
    stalled = w.condition("Stalled") == ("True", "LedgerBroken")
    assert stalled == (uid is not None), "a Release for an earlier promotion accepts nothing"
    w.say(DecisionAction.RELEASE)
    w.run()
    w.register("3")
    w.run()
    assert w.alias == "3"


def test_an_alias_that_another_cluster_moves_is_told_as_such() -> None:
    """Its ledger is signed with a key unknown here: told as broken, a Release of that took the
    alias from its living owner."""
    w = grown()
    w.status = PromotionStatus()
    w.model_tags[HEAD] = json.dumps({**json.loads(w.model_tags[HEAD]), "key": "theirs"})
    claim = {"cluster": "c", "namespace": "n", "name": "p", "since": "2020-01-01T00:00:00+00:00"}
    w.model_tags[OWNER] = json.dumps(claim)
    before = dict(w.model_tags)
    w.run()
    assert w.condition("Stalled") == ("True", "AliasClaimed")
    assert (w.model_tags, w.status.history) == (before, ())
    w.model_tags[OWNER] = json.dumps({**claim, "released": True})
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken"), "now it is about the key"
    w.say(DecisionAction.RELEASE)
    w.run()
    assert json.loads(w.model_tags[OWNER])["name"] == w.promotion.metadata.name
    assert w.status.champion_version == "2"


def test_a_release_of_a_version_does_not_accept_a_ledger() -> None:
    w = grown()
    w.status = PromotionStatus()
    w.model_tags[HEAD] = json.dumps({**json.loads(w.model_tags[HEAD]), "key": "another"})
    w.say(DecisionAction.RELEASE, version="2")
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")


def test_a_head_that_somebody_deleted_comes_back() -> None:
    w = grown()
    del w.model_tags[HEAD]
    w.register("3")
    w.run()
    assert w.alias == "3"
    assert ledger.check(state(w)).trouble is None
    assert w.status.ledger_seq == state(w).head_seq


def without_head_and_status() -> World:
    """3 is in quarantine; then somebody deletes the head, and the promotion is created again."""
    w = grown()
    w.broken.add("3")
    w.register("3")
    w.run(400)
    del w.model_tags[HEAD]
    w.status, w.uid = PromotionStatus(), "uid-2"
    w.log.clear()
    return w


def test_without_its_head_a_ledger_is_no_new_beginning() -> None:
    w = without_head_and_status()
    w.run(400)
    assert [q.version for q in w.status.quarantined] == ["3"]
    assert (w.alias, w.status.champion_version) == ("2", "2")
    assert not any(line.startswith(("SetAlias", "ApplyTarget")) for line in w.log)


def test_entries_that_follow_on_nothing_stall_until_a_release() -> None:
    w = without_head_and_status()
    w.delete("1")  # and with it the first entries
    w.run()
    assert w.condition("Stalled") == ("True", "LedgerBroken")
    last = max(entry.seq for entry in w.observe().ledger.entries)
    w.say(DecisionAction.RELEASE)
    w.run(400)
    assert w.condition("Stalled")[1] != "LedgerBroken"
    assert w.status.history[0].seq == last + 1
    assert ledger.check(w.observe().ledger).trouble is None


def test_status_keeps_the_last_entries_only() -> None:
    w = world(historyLimit=3)
    for version in range(1, 8):
        w.register(str(version))
        w.run()
    assert len(w.status.history) == 3
    assert len(written(w)) == 14


# 32 KiB


def size(status: PromotionStatus) -> int:
    return len(json.dumps(write(status), ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize("letter", ["w", "\u4e2d", "\U0001f600"])
def test_status_stays_under_32_kib(letter: str) -> None:
    """As many of everything as the CRD takes, with names and texts as long as they may be."""
    text, name = letter * 1024, letter * 250
    values = [letter * 500] * 32
    gates = [
        {"name": f"{n:02}".zfill(63), "tag": {"key": name, "values": values}} for n in range(20)
    ]
    targets = [another(PINNED, f"{n:02}".zfill(63)) for n in range(16)]
    w = world(model=name, gates=gates, targets=targets, historyLimit=20)
    w.register("100000000")
    w.run()
    version = replace(w.versions["100000000"], tags={})
    facts = GateFacts(candidate=VersionFacts(version))
    verdicts, _ = evaluate_all(w.promotion.spec.gates, facts, w.now)
    approvals = [ApprovalStatus(decision="d" * 253, by=clip(text, NAME_SHOWN)) for _ in range(10)]
    for number in range(100000001, 100000031):
        seen = w.observe()
        attempt = begin(seen, w.now, str(number), Origin.CANDIDATE, previous="100000000")
        attempt = structs.replace(
            attempt,
            phase=Phase.VERIFYING,
            gates=verdicts,
            approvals=tuple(approvals),
            evidence_digest="sha256:" + "0" * 64,
        )
        back = turn_back(
            seen,
            w.now,
            attempt,
            reason=Reason.CONTAINER_FAILED,
            message=text,
            quarantine=True,
            hold=True,
            decision=f"{'d' * 253}/{'u' * 36}",
            by=letter * 250,
        )
        problem = Problem(ProblemKind.STALLED, Reason.FIELD_CONFLICT, text)
        w.status = summarize(seen, back.status, problem, w.now)
        signatures = 120 * len(w.status.history)  # which the runtime adds
        assert size(w.status) + signatures < 32 * 1024
        assert w.status.history[-1].seq == w.status.ledger_seq
        for entry in w.status.history:
            w.perform(MirrorEntry(entry))
    assert len(w.status.quarantined) == 20
    assert len(w.status.history) >= 3
