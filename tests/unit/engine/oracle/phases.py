"""From phase to phase, each step with its entry in the ledger."""

from podium.api.promotion_status import Origin, Phase
from podium.engine import ledger
from tests.unit.engine.oracle.case import (
    BACK,
    A,
    Case,
    P,
    Rule,
    is_own,
    late,
    standing_still,
    taken_up,
)

# The line of phases in DESIGN section 3. None: no attempt, or one that has come to its end.
FOLLOWS: dict[Phase | None, frozenset[Phase]] = {
    None: frozenset({P.VALIDATING, P.ROLLING_BACK}),
    P.VALIDATING: frozenset({P.AWAITING_APPROVAL, P.PROMOTING, P.REJECTED, P.EXPIRED}),
    P.AWAITING_APPROVAL: frozenset({P.PROMOTING, P.VALIDATING, P.REJECTED, P.EXPIRED}),
    P.PROMOTING: frozenset(
        {P.VERIFYING, P.ROLLING_BACK, P.VALIDATING, P.AWAITING_APPROVAL, P.REJECTED, P.EXPIRED}
    ),
    P.VERIFYING: frozenset({P.BAKING, P.PROMOTED, P.ROLLING_BACK, P.REJECTED}),
    P.BAKING: frozenset({P.PROMOTED, P.ROLLING_BACK, P.REJECTED}),
    P.ROLLING_BACK: frozenset({P.ROLLED_BACK, P.REJECTED}),
}
ENDINGS = {
    P.PROMOTED: {A.PROMOTED},
    P.BAKING: {A.PROMOTED},
    P.ROLLED_BACK: {A.ROLLED_BACK, A.REVERTED},
    P.REJECTED: {A.REJECTED},
    P.EXPIRED: {A.EXPIRED},
    P.SUPERSEDED: {A.SUPERSEDED, A.ABANDONED},
}


def goes_from_phase_to_phase(c: Case) -> None:
    if c.restored or c.anew:
        return
    old, new = c.before.attempt, c.after.attempt
    if new is None:
        assert old is None, "an attempt is forgotten"
        return
    if taken_up(c):
        assert c.attempt is None and new.phase is P.PROMOTING
        return
    if late(c) and c.attempt is None:
        assert old is None or new == old or new.phase in (P.BAKING, P.PROMOTED), new.phase
        return
    begun = old is None or old.id != new.id
    if begun:
        assert c.attempt is None, "an attempt takes the place of one that runs"
        assert new.phase in FOLLOWS[None], new.phase
        return
    assert old is not None
    kept = (old.version, old.origin, old.started_at, old.candidate_digest)
    assert kept == (new.version, new.origin, new.started_at, new.candidate_digest)
    if old.phase is new.phase:
        return
    assert not old.phase.terminal, f"{old.phase} is an end"
    assert new.phase in FOLLOWS[old.phase] | {P.SUPERSEDED}, f"{old.phase} -> {new.phase}"
    if old.phase is P.PROMOTING and old.move_id:
        assert new.phase not in (P.VALIDATING, P.AWAITING_APPROVAL), "moved, and judged again"
    if old.phase is not P.PROMOTING and old.move_id is None and not old.rollback:
        assert new.phase is not P.ROLLING_BACK, "goes back though nothing has moved"


def has_a_deadline(c: Case) -> None:
    """Each phase that waits for something has one."""
    new, old = c.after.active, c.before.active
    if new is None or (old and old.phase is new.phase and old.move_id == new.move_id):
        return
    moving = new.phase is P.PROMOTING and new.move_id
    if moving or new.phase in (P.AWAITING_APPROVAL, P.VERIFYING, P.ROLLING_BACK):
        assert new.deadline is not None and new.deadline >= c.now, new.phase


def the_ledger_grows_by_links(c: Case) -> None:
    if c.restored:
        return
    head, seq = c.before.ledger_head, c.before.ledger_seq
    for entry in c.new:
        assert (entry.seq, entry.previous) == (seq + 1, head), "does not fit the chain"
        assert ledger.entry_hash(entry) == entry.hash
        seq, head = entry.seq, entry.hash
    assert (c.after.ledger_seq, c.after.ledger_head) == (seq, head)
    old = [e for e in c.after.history if e.seq <= c.before.ledger_seq]
    assert old == list(c.before.history)[-len(old) :] if old else True, "history is changed"
    lost = {e.seq for e in c.before.history} - {e.seq for e in c.after.history}
    anew = [e.seq for e in c.after.history if e.action is A.RECREATED]
    mirrored = max([c.seen.ledger.head_seq, *anew])
    assert all(s <= mirrored for s in lost), "forgets what MLflow does not have"


def every_step_is_in_the_ledger(c: Case) -> None:
    """Intent before move, outcome after it; champion, hold and quarantine by entries only."""
    if c.restored or c.anew:
        return
    old, new = c.before.attempt, c.after.attempt
    if new and (old is None or old.id != new.id or old.phase is not new.phase):
        if new.phase in ENDINGS:
            assert c.added(*ENDINGS[new.phase]) or (old and old.phase is P.BAKING), new.phase
        if new.phase is P.ROLLING_BACK:
            assert c.added(*BACK), "goes back without an intent"
    if new and new.move_id and (old is None or old.move_id != new.move_id):
        # What came good after it was given up bakes: it has moved before.
        (began,) = c.added(A.PROMOTED if new.phase is P.BAKING else A.PROMOTE_INTENT)
        assert (began.to, began.move_id) == (new.version, new.move_id)
    champion = c.after.champion_version
    if champion != c.before.champion_version:
        stayed = {A.REJECTED} if c.attempt and c.attempt.origin is not Origin.DRIFT else set()
        arrived = c.added(A.PROMOTED, A.ROLLED_BACK, A.REVERTED, A.ADOPTED, *stayed)
        assert champion in {entry.to for entry in arrived}, "a champion out of nowhere"
    gone = {q.version for q in c.before.quarantined} - {q.version for q in c.after.quarantined}
    come = {q.version for q in c.after.quarantined} - {q.version for q in c.before.quarantined}
    assert come <= {e.to for e in c.added(A.QUARANTINED)}
    cut = len(c.after.quarantined) == 20
    assert cut or gone <= {e.to for e in c.added(A.RELEASED)}
    if c.before.hold != c.after.hold:
        assert c.added(A.HELD if c.after.hold else A.RELEASED), "a hold without an entry"


def begins_anew_with_another_model(c: Case) -> None:
    """Created at another time, and without a ledger. Nothing counts then but claim and hold."""
    known, created = c.before.model_created_at, c.seen.model and c.seen.model.created_at
    another = bool(known and created and created != known and c.seen.ledger.head_hash is None)
    if c.restored:
        assert c.after.model_created_at in (known, created), "read back from this model"
        return
    kept = created if created and (c.anew or not another) else known
    assert c.after.model_created_at == kept, "forgets which model it is about"
    if standing_still(c.seen) or not c.before.claim or not c.before.claim.confirmed:
        return
    claimed = c.seen.claim is not None and is_own(c.seen, c.seen.claim)
    assert c.anew == another or not (claimed and not c.seen.claim.released), "another model"
    if c.anew:
        left = (c.after.champion, c.after.attempt, c.after.candidate, c.after.highest_promoted)
        assert left == (None,) * 4 and not c.after.quarantined, "believes what was of another"
        by_person = c.before.hold and c.before.hold.reason.startswith("HeldByDecision")
        assert c.after.hold == (c.before.hold if by_person else None)


PHASES: tuple[Rule, ...] = (
    goes_from_phase_to_phase,
    has_a_deadline,
    the_ledger_grows_by_links,
    every_step_is_in_the_ledger,
    begins_anew_with_another_model,
)
