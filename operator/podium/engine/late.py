"""Late: a version that was given up, with nothing to go back to, and came good after all."""

from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion_status import ChampionStatus, Phase
from podium.api.reasons import Reason
from podium.engine import ledger, serving, stages
from podium.engine.attempts import entered
from podium.engine.candidate import BECAME_CHAMPION, is_verdict, still_selected, tried_first, usable
from podium.engine.decision import Decision
from podium.engine.digests import digest
from podium.engine.observation import Observation
from podium.engine.restoring import bake_of, carried_on
from podium.engine.steps import act, normal, persist
from podium.engine.verifying import highest

_BACK = BECAME_CHAMPION | {EntryAction.ROLLBACK_INTENT, EntryAction.REVERT_INTENT}


def note_that_it_came_good(seen: Observation, now: datetime) -> Decision | None:
    """The alias stayed at it, so only its outcome is missing. Also while the next one waits, which
    may fail and then has it to go back to; it bakes unless one waits."""
    entry = came_good(seen)
    if entry is None or entry.to is None:
        return None
    if seen.alias != entry.to or seen.status.champion_version != entry.to:
        return None
    began = _intents(seen, entry)
    before = began[0].from_version if began else None
    transition = stages.next_transition(seen, entry.to, demoted=before, at_rest=True)
    if transition:
        waiting = seen.attempt and seen.attempt.version
        tried = transition.version in (waiting, tried_first(seen))
        return None if tried else act(seen, transition)
    status = ledger.append(
        seen,
        seen.status,
        now,
        EntryAction.PROMOTED,
        from_version=before,
        to=entry.to,
        attempt=entry.attempt,
        move_id=entry.move_id,
        reason="it became ready after all",
        evidence=began[0].evidence if began else None,
    )
    champion = ChampionStatus(version=entry.to, since=now, move_id=entry.move_id)
    best = highest(status.highest_promoted, entry.to)
    attempt = status.attempt
    own = attempt if attempt and attempt.id == entry.attempt else None
    if seen.attempt is None and (bake := bake_of(seen, status.history[-1], now)):
        attempt = entered(own or bake, Phase.BAKING, now)
        attempt = replace(attempt, rollback=None, baked_seconds=0, baked_at=now)
    elif own:
        attempt = replace(entered(own, Phase.PROMOTED, now), rollback=None)
    text = f"version {entry.to} is {seen.spec.alias} and is served after all"
    return persist(
        replace(status, champion=champion, highest_promoted=best, attempt=attempt),
        normal(Reason.PROMOTED, text),
    )


def promote_what_came_good(seen: Observation, now: datetime) -> Decision | None:
    """By version: what was given up with nothing to go back to rolled out after all, so its move
    goes on, to the alias. Once; not while told to stop, nor when something else is wanted now."""
    entry = came_good(seen)
    intents = _intents(seen, entry) if entry else ()
    if entry is None or len(intents) != 1 or not serving.all_by_version(seen):
        return None
    began = intents[0]
    if seen.spec.suspend or seen.status.hold or began.spec != digest(seen.spec):
        return None
    if seen.alias not in (began.from_version, entry.to) or not still_selected(seen, entry.to):
        return None
    status = ledger.append(
        seen,
        seen.status,
        now,
        EntryAction.PROMOTE_INTENT,
        from_version=began.from_version,
        to=began.to,
        attempt=began.attempt,
        move_id=began.move_id,
        reason=began.reason,
        evidence=began.evidence,
    )
    attempt = carried_on(seen, status.history[-1], now)
    if (last := seen.status.attempt) and last.id == attempt.id:
        limit = seen.spec.rollout.progress_deadline.delta
        attempt = replace(entered(last, attempt.phase, now, limit), rollback=None)
    text = f"version {entry.to} became ready after all"
    return persist(replace(status, attempt=attempt), normal(Reason.ATTEMPT_STARTED, text))


def _intents(seen: Observation, entry: LedgerEntry) -> tuple[LedgerEntry, ...]:
    own = (e for e in ledger.known(seen) if e.attempt == entry.attempt)
    return tuple(e for e in own if e.action is EntryAction.PROMOTE_INTENT)


def came_good(seen: Observation) -> LedgerEntry | None:
    """The entry by which it was given up, when its rollout is good: with pods, where there are
    targets, as it may not have had one before."""
    entry = given_up(seen)
    if entry is None or not usable(seen, entry.to):
        return None
    good = (
        serving.carries(seen, target, state, entry.to or "", entry.move_id or "") and state.settled
        for target, state in serving.pairs(seen)
    )
    has_pods = not seen.targets or any(state.available for state in seen.targets)
    return entry if has_pods and all(good) else None


def given_up(seen: Observation) -> LedgerEntry | None:
    """The entry by which the champion (by version: what would have become it) was given up, while
    nothing has happened since: it had moved, was not good in time, and there was nothing to go
    back to. Not what a person went back from, or what was refused since."""
    refused = set()
    for entry in reversed(ledger.known(seen)):
        if is_verdict(entry):
            refused.add(entry.to)
        elif entry.action is EntryAction.REJECTED and entry.move_id:
            own = seen.status.champion_version in (None, entry.to) and entry.to not in refused
            return entry if own and not _left_by_person(seen, entry) else None
        if entry.action in _BACK or _by_person(entry):
            return None
    return None


def _left_by_person(seen: Observation, entry: LedgerEntry) -> bool:
    return any(_by_person(e) for e in ledger.known(seen) if e.attempt == entry.attempt)


def _by_person(entry: LedgerEntry) -> bool:
    """A Rollback. (Its intent is lost with the destination when that version is deleted.)"""
    if entry.action is EntryAction.HELD:
        return entry.reason.startswith(Reason.ROLLBACK_BY_DECISION)
    return entry.action is EntryAction.ROLLBACK_INTENT and entry.decision is not None
