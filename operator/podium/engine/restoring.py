"""Restoring: status is gone or older than the ledger, so the ledger is read back first.

A promotion that was deleted and re-created, or whose status was wiped, or an etcd restored
from an older snapshot, must not repeat what was rolled back meanwhile.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion_status import (
    AttemptStatus,
    ChampionStatus,
    HoldStatus,
    Origin,
    Phase,
    PromotionStatus,
    QuarantineStatus,
    RollbackStatus,
)
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.attempts import QUARANTINE_SHOWN, REASON_SHOWN, held_by_person, move_id
from podium.engine.candidate import BECAME_CHAMPION, lifts_quarantine
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.steps import NOW, clip, normal, persist, stall
from podium.engine.verifying import highest

_INTENTS = frozenset(
    {EntryAction.PROMOTE_INTENT, EntryAction.ROLLBACK_INTENT, EntryAction.REVERT_INTENT}
)
_ENDS = BECAME_CHAMPION | {
    EntryAction.ABANDONED,
    EntryAction.REJECTED,
    EntryAction.EXPIRED,
    EntryAction.SUPERSEDED,
}


def restore(seen: Observation, now: datetime) -> Decision | None:
    """Reads status back when the registry's ledger is ahead of it, if it can be trusted."""
    if not behind(seen):
        return None
    if not seen.ledger.complete:
        return Decision(seen.status, requeue_after=NOW)  # `needs` asks for it
    if _last(seen) > ledger.LAST_SEQ:
        text = (
            f"a tag podium.dev/ of model {seen.spec.model} or of its versions says entry "
            f"{_last(seen)} of the ledger, which no Podium wrote: delete that tag"
        )
        return stall(seen, Reason.LEDGER_BROKEN, text)
    chain = ledger.check(seen.ledger)
    trouble = _trouble(seen, chain)
    if trouble and not seen.released:
        text = (
            f"the ledger in MLflow is not trusted: {trouble}. Look at the tags podium.dev/ of "
            f"model {seen.spec.model}; a PromotionDecision Release accepts it as it is, and lifts "
            f"a hold"
        )
        return stall(seen, Reason.LEDGER_BROKEN, text)
    if chain.trouble or chain.seq < _last(seen):
        # Accepted by a person: go on after all that is there, believe no entry.
        chain = ledger.Chain((), _last(seen), seen.ledger.head_hash)
    status = replay(seen, chain, now)
    text = f"status was behind the ledger: read back to entry {chain.seq}"
    return persist(status, normal(Reason.RESTORED, text))


def behind(seen: Observation) -> bool:
    """Whether MLflow knows more, or something else. Entries beyond the head count: whoever
    deletes the head alone, or a crash before it, does not make the rest unsaid."""
    own, head = seen.status.ledger_seq, seen.ledger.head_seq
    other = head == own and seen.ledger.head_hash != seen.status.ledger_head
    return _last(seen) > own or other or _another_ledger(seen)


def _another_ledger(seen: Observation) -> bool:
    """The model is another one, or the one of before again: what is there is what counts. Where
    status or head was written before ledgers had an id, the model's creation time tells."""
    own, there = seen.status.ledger_id, seen.ledger.ledger_id
    if own and there:
        return own != there
    known, created = seen.status.model_created_at, seen.model.created_at if seen.model else None
    head = seen.ledger.head_hash
    unlike = head is not None and head != seen.status.ledger_head
    return bool(unlike and known and created and known != created)


def trusted_keys(seen: Observation) -> frozenset[str]:
    """Whose signatures count. That of the ledger's head only when the ledger is to be read back:
    of an unknown one a person is asked before."""
    head = seen.ledger.head_signer if behind(seen) else None
    return frozenset(key for key in (*_known_signers(seen), head) if key)


def _known_signers(seen: Observation) -> tuple[str | None, ...]:
    return (seen.ledger.signer, seen.status.signer, *seen.status.former_signers)


def _last(seen: Observation) -> int:
    return max([seen.ledger.head_seq, *(entry.seq for entry in seen.ledger.entries)])


def _trouble(seen: Observation, chain: ledger.Chain) -> str | None:
    """Why the ledger is not to be believed without a person's word."""
    if chain.trouble:
        return chain.trouble
    unknown = seen.ledger.head_signer not in _known_signers(seen)
    if seen.ledger.head_hash is not None and unknown:
        return "it was signed with a key unknown here"
    last = _last(seen)
    return f"entry {last} follows on none that is there" if chain.seq < last else None


def replay(seen: Observation, chain: ledger.Chain, now: datetime) -> PromotionStatus:
    """The status that these entries amount to. Pure bookkeeping: no entry is added."""
    entries = chain.entries
    status = PromotionStatus(
        claim=seen.status.claim,
        candidate=None if _another_ledger(seen) else seen.status.candidate,
        conditions=seen.status.conditions,
        history=entries[-seen.spec.history_limit :],
        ledger_seq=chain.seq,
        ledger_head=chain.head,
        ledger_id=seen.ledger.ledger_id,
        model_created_at=seen.model.created_at if seen.model else None,
        signer=seen.ledger.signer,
        former_signers=ledger.former_signers(
            seen.status,
            seen.ledger.signer,
            seen.status.signer,
            seen.ledger.head_signer if entries else None,
        ),
    )
    counting = ledger.of_this_model(entries)
    for entry in counting:
        status = _after(seen, status, entry)
    status = replace(status, attempt=_unfinished(seen, counting, status, now))
    return _carried_over(seen, entries, status, now) if _another_ledger(seen) else status


def _carried_over(
    seen: Observation, entries: Sequence[LedgerEntry], status: PromotionStatus, now: datetime
) -> PromotionStatus:
    """A person's hold outlives the model. And what runs has loaded another model: without a move
    of its own the champion would look served."""
    champion, hold = status.champion, held_by_person(seen.status)
    if champion and champion.move_id is None:
        moved = move_id(seen, now, f"serve {champion.version}")
        status = replace(status, champion=replace(champion, move_id=moved))
    if hold is None or held_by_person(status) or _released_there(seen, entries, hold):
        return status
    status = ledger.append(seen, status, now, EntryAction.HELD, reason=hold.reason)
    return replace(status, hold=hold)


def _released_there(seen: Observation, entries: Sequence[LedgerEntry], hold: HoldStatus) -> bool:
    """Whether that ledger was given this very hold before, and a person lifted it since."""
    given = (n for n, e in enumerate(entries) if _carries(seen, e, hold))
    later = entries[next(given, len(entries)) :]
    return any(e.action is EntryAction.RELEASED and e.to is None for e in later)


def _carries(seen: Observation, entry: LedgerEntry, hold: HoldStatus) -> bool:
    """The entry of the Hold itself, or one that carried it there (and it has the same words)."""
    if entry.action is not EntryAction.HELD or entry.model != seen.spec.model:
        return False
    since = hold.since.replace(microsecond=0)  # as entries have it
    fits = entry.time == since if entry.decision else entry.time >= since
    return fits and clip(_why_held(entry), REASON_SHOWN) == hold.reason


def _after(seen: Observation, status: PromotionStatus, entry: LedgerEntry) -> PromotionStatus:
    match entry.action:
        case action if action in BECAME_CHAMPION and entry.to is not None:
            champion = ChampionStatus(version=entry.to, since=entry.time, move_id=entry.move_id)
            best = highest(status.highest_promoted, entry.to)
            counts = action in (EntryAction.PROMOTED, EntryAction.ADOPTED)
            left = _without(status, entry.to if lifts_quarantine(entry) else None)
            return replace(
                status,
                champion=champion,
                highest_promoted=best if counts else status.highest_promoted,
                quarantined=left,
            )
        case EntryAction.QUARANTINED if entry.to is not None:
            item = QuarantineStatus(
                version=entry.to, reason=clip(entry.reason, REASON_SHOWN), since=entry.time
            )
            others = _without(status, entry.to)
            return replace(status, quarantined=(*others, item)[-QUARANTINE_SHOWN:])
        case EntryAction.HELD:
            held = HoldStatus(
                since=entry.time,
                reason=clip(_why_held(entry), REASON_SHOWN),
                version=entry.from_version,
            )
            return replace(status, hold=held_by_person(status) or held)
        case EntryAction.RELEASED if entry.to is None:
            return replace(status, hold=None)
        case EntryAction.RELEASED if lifts_quarantine(entry):
            return replace(status, quarantined=_without(status, entry.to))
        case EntryAction.RELEASED:
            by_pin = status.hold is not None and status.hold.version == entry.to
            return replace(status, hold=None if by_pin else status.hold)
        case EntryAction.REJECTED if _stayed(seen, entry) and entry.to is not None:
            stayed = ChampionStatus(version=entry.to, since=entry.time, move_id=entry.move_id)
            return replace(status, champion=stayed)
        case _:
            return status


def _without(status: PromotionStatus, version: str | None) -> tuple[QuarantineStatus, ...]:
    return tuple(item for item in status.quarantined if item.version != version)


def _why_held(entry: LedgerEntry) -> str:
    """As `answering.hold` says it, where a person held it."""
    if entry.decision is None:
        return entry.reason
    name = entry.decision.partition("/")[0]
    return f"{Reason.HELD_BY_DECISION}: {entry.reason or name}"


def _stayed(seen: Observation, entry: LedgerEntry) -> bool:
    """Whether it was given up after it had moved, with nothing to go back to, and has the alias."""
    return entry.inputs is None and entry.to == seen.alias


def _unfinished(
    seen: Observation, entries: Sequence[LedgerEntry], status: PromotionStatus, now: datetime
) -> AttemptStatus | None:
    """An intent without an outcome is carried on, under its own move id; and a bake that began
    less than its duration ago begins again."""
    intent: LedgerEntry | None = None
    promoted: LedgerEntry | None = None
    for entry in entries:
        if entry.action in _INTENTS:
            intent, promoted = entry, None
        elif entry.action in _ENDS:
            promoted = entry if entry.action is EntryAction.PROMOTED else None
            intent = None
        elif promoted and _fails(entry, promoted):
            promoted = None  # what it went back to, and the entries there, are gone
    if promoted is not None:
        return bake_of(seen, promoted, now)
    if intent is None or intent.to is None:
        return None
    attempt = carried_on(seen, intent, now)
    if intent.action is EntryAction.PROMOTE_INTENT:
        return attempt
    reason, _, message = intent.reason.partition(": ")
    failed = intent.from_version or intent.to
    return replace(
        attempt,
        version=failed,
        phase=Phase.ROLLING_BACK,
        previous=_alias_before(seen, entries, intent),
        move_id=None,
        rollback=RollbackStatus(
            to=intent.to,
            move_id=intent.move_id,
            reason=reason,
            message=message,
            quarantine=any(q.version == failed for q in status.quarantined),
            hold=status.hold is not None,
            decision=intent.decision,
            by=intent.by,
        ),
    )


def _fails(entry: LedgerEntry, promoted: LedgerEntry) -> bool:
    """Whether its bake ended so: in quarantine, or in the hold of a Rollback."""
    if entry.action is EntryAction.HELD:
        return entry.from_version == promoted.to
    return entry.action is EntryAction.QUARANTINED and entry.to == promoted.to


def carried_on(seen: Observation, intent: LedgerEntry, now: datetime) -> AttemptStatus:
    """The attempt that this PromoteIntent began to move, with the same move id."""
    return AttemptStatus(
        id=intent.attempt or f"{intent.to}-restored",
        version=intent.to or "",
        phase=Phase.PROMOTING,
        origin=_origin(intent),
        started_at=intent.time,
        phase_started_at=now,
        deadline=now + seen.spec.rollout.progress_deadline.delta,
        previous=intent.from_version,
        move_id=intent.move_id,
        evidence_digest=intent.evidence,
        candidate_digest=intent.candidate,
    )


def _alias_before(
    seen: Observation, entries: Sequence[LedgerEntry], intent: LedgerEntry
) -> str | None:
    """Where the alias was when this attempt began to go back: where it was going before, or where
    it came from. Nobody wrote down which; if it is at one of them, it was that."""
    own = (e for e in entries if e.action in _INTENTS and e.attempt == intent.attempt)
    move = EntryAction.PROMOTE_INTENT
    places = [e.from_version if e.action is move else e.to for e in own if e.seq < intent.seq]
    if not places:
        return intent.to
    return seen.alias if seen.alias in places else places[0]


def _origin(intent: LedgerEntry) -> Origin:
    if intent.action is EntryAction.REVERT_INTENT:
        return Origin.DRIFT
    return Origin.ADOPT if intent.reason == Origin.ADOPT.value else Origin.CANDIDATE


def bake_of(seen: Observation, promoted: LedgerEntry, now: datetime) -> AttemptStatus | None:
    """The bake that follows this Promoted; None where its time is over, or where none is wanted."""
    duration = seen.spec.rollback.bake_duration.delta
    if promoted.to is None or not duration or now >= promoted.time + duration:
        return None
    return AttemptStatus(
        id=promoted.attempt or f"{promoted.to}-restored",
        version=promoted.to,
        phase=Phase.BAKING,
        started_at=promoted.time,
        phase_started_at=promoted.time,
        previous=promoted.from_version,
        move_id=promoted.move_id,
        evidence_digest=promoted.evidence,
        candidate_digest=promoted.candidate,
        baked_at=now,
    )
