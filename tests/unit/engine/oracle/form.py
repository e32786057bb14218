"""What every decision says, whatever it decides: conditions, size, and nothing while it may not."""

import msgspec

from podium.api.reasons import ConditionType, Reason
from podium.api.values import encode_hook
from podium.engine import ledger
from podium.engine.observation import ProblemKind
from tests.unit.engine.oracle.case import A, Case, P, Rule, essence, standing_still


def says_whatever_is_seen(c: Case) -> None:
    """Conditions of four kinds; each reason is one that docs/reasons.md promises."""
    kinds = [condition.type for condition in c.after.conditions]
    assert sorted(kinds) == sorted(ConditionType), kinds
    before = {condition.type: condition for condition in c.before.conditions}
    for condition in c.after.conditions:
        Reason(condition.reason)
        assert condition.observed_generation == c.seen.promotion.metadata.generation
        old = before.get(condition.type)
        same = old is not None and old.status == condition.status
        assert (not same) or (
            old is not None and old.last_transition_time == condition.last_transition_time
        ), "a transition time moves with the status only"
    for event in c.made.events:
        assert event.message, event
    if c.made.problem:
        assert c.made.problem.message


def stays_small(c: Case) -> None:
    size = len(msgspec.json.encode(c.after, enc_hook=encode_hook))
    assert size <= 32 * 1024, f"status has {size} bytes"


def is_stalled_when_a_person_must_act(c: Case) -> None:
    problem = c.made.problem
    stalled = next(x for x in c.after.conditions if x.type == ConditionType.STALLED)
    if problem is not None and problem.kind is ProblemKind.STALLED:
        assert (stalled.status, stalled.reason) == ("True", problem.reason)
    if c.after.hold is not None:
        assert stalled.status == "True", "a hold needs a person"
    if stalled.status == "True":
        assert stalled.message


def is_ready_only_when_the_champion_is_served(c: Case) -> None:
    found = next(x for x in c.after.conditions if x.type == ConditionType.READY)
    if found.status != "True":
        return
    champion = c.after.champion
    assert champion is not None, "Ready without a champion"
    if c.seen.model is not None:
        assert c.seen.alias == champion.version, "Ready, and the alias is elsewhere"
    for state in c.seen.targets:
        assert state.problem is None and state.settled, f"Ready, and {state.name} is not"
        assert state.model_version in (None, champion.version), "Ready with another version"
    active = c.after.active
    if active and (active.move_id or active.rollback):
        assert active.phase is P.BAKING, "Ready in the middle of a move"


def nothing_while_it_may_not(c: Case) -> None:
    """Deleting, a rival, the registry away (I4), no model, a foreign claim: nothing at all."""
    why = standing_still(c.seen)
    if why is None:
        return
    assert c.made.actions == (), f"acts though {why}"
    if why != "unsettled":
        assert essence(c.after) == essence(c.before), f"goes on though {why}"
        return
    attempts = [essence(s).attempt for s in (c.before, c.after)]
    assert c.restored or attempts[0] == attempts[1], "builds on an unsettled write"


def a_ledger_ahead_is_read_first(c: Case) -> None:
    """Status that is older than the ledger: read back, or Stalled; no step, no action."""
    if standing_still(c.seen) or not c.restored:
        return
    assert c.made.actions == (), "acts on a status that is behind the ledger"
    if essence(c.after) == essence(c.before):
        return
    chain = ledger.check(c.seen.ledger)
    signers = (c.seen.ledger.signer, c.before.signer, *c.before.former_signers)
    trusted = c.seen.ledger.head_hash is None or c.seen.ledger.head_signer in signers
    assert c.seen.ledger.complete, "reads back from half a ledger"
    assert c.seen.released or (trusted and chain.trouble is None), "believes a broken ledger"
    last = max([c.seen.ledger.head_seq, *(e.seq for e in c.seen.ledger.entries)])
    carried = [e.action for e in c.after.history if e.seq > last]  # a person's hold
    assert carried in ([], [A.HELD]), "more than is there"
    assert c.after.ledger_seq == last + len(carried), "goes on over entries that are there"


FORM: tuple[Rule, ...] = (
    says_whatever_is_seen,
    stays_small,
    is_stalled_when_a_person_must_act,
    is_ready_only_when_the_champion_is_served,
    nothing_while_it_may_not,
    a_ledger_ahead_is_read_first,
)
