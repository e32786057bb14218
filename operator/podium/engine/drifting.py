"""Drift: somebody else moved the alias. In mid-attempt the attempt ends; at rest the
aliasDriftPolicy decides.

An alias at the candidate counts as Podium's own move only with a persisted intent.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion import AliasDriftPolicy, WhenUnknown
from podium.api.promotion_status import (
    AttemptStatus,
    CandidateStatus,
    HoldStatus,
    Origin,
    Phase,
)
from podium.api.reasons import Reason
from podium.engine import ledger, serving
from podium.engine.attempts import REASON_SHOWN, begin, end, entered, turn_back
from podium.engine.candidate import (
    BECAME_CHAMPION,
    block,
    last_archived,
    last_good,
    usable,
    way_back,
)
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.steps import clip, normal, persist, stall, warning
from podium.engine.summary import was_adrift
from podium.engine.validating import running

DELAYED_COMMIT = timedelta(minutes=2)  # how late a request of ours may still take effect


def end_if_alias_was_taken(seen: Observation, now: datetime) -> Decision | None:
    """In mid-attempt: an alias that is neither where it was nor where the intent says."""
    attempt = running(seen)
    if back := _follow_back(seen, now, attempt):
        return back
    if seen.alias in _expected(seen, attempt):
        return None
    message = f"somebody moved the alias to {seen.alias or 'nothing'} during the attempt"
    if attempt.move_id is None and attempt.phase is not Phase.ROLLING_BACK:
        return end(seen, now, Phase.SUPERSEDED, Reason.ALIAS_TAKEN, message)
    status = ledger.append(
        seen,
        seen.status,
        now,
        EntryAction.ABANDONED,
        to=attempt.version,
        attempt=attempt.id,
        reason=f"{Reason.ALIAS_TAKEN}: {message}",
    )
    over = replace(
        entered(attempt, Phase.SUPERSEDED, now),
        reason=Reason.ALIAS_TAKEN.value,
        message=clip(message),
    )
    return persist(replace(status, attempt=over), warning(Reason.ALIAS_TAKEN, message))


def _expected(seen: Observation, attempt: AttemptStatus) -> frozenset[str | None]:
    """Where the alias may be without that anybody else moved it."""
    goal = attempt.rollback.to if attempt.rollback else attempt.version
    move = attempt.rollback.move_id if attempt.rollback else attempt.move_id
    expected: set[str | None]
    if move and serving.asks_alias(seen, goal, move):
        expected = {goal}  # elsewhere, its pods would load another version than they stand for
    elif attempt.rollback:
        # None: a revert may start from a deleted alias; and MLflow deletes an alias with its
        # version, also that of an earlier destination.
        expected = {attempt.version, attempt.previous, attempt.rollback.to, None}
    elif attempt.origin is Origin.ADOPT:
        expected = {attempt.version, *({attempt.previous} if attempt.move_id else ())}
    elif attempt.move_id is None:
        expected = {attempt.previous}
    else:
        expected = {attempt.previous, attempt.version}
    if any(version and seen.version(version) is None for version in expected):
        expected.add(None)  # MLflow deletes an alias with its version
    return frozenset(expected)


def _follow_back(seen: Observation, now: datetime, attempt: AttemptStatus) -> Decision | None:
    """Policy Adopt: whoever gives the alias back while the targets follow wants to go back."""
    follows = seen.spec.alias_drift_policy is AliasDriftPolicy.ADOPT
    moving = attempt.move_id is not None and attempt.rollback is None
    if not follows or not moving or attempt.origin is not Origin.ADOPT:
        return None
    if seen.alias in (None, attempt.version) or seen.alias != attempt.previous:
        return None
    message = f"somebody gave the alias back to {seen.alias}"
    return turn_back(seen, now, attempt, reason=Reason.ALIAS_TAKEN, message=message, to=seen.alias)


def follow_or_revert(seen: Observation, now: datetime) -> Decision | None:
    """At rest: the alias is not at the champion."""
    champion = seen.status.champion_version
    if seen.alias == champion:
        return _restart_what_followed(seen, now) if was_elsewhere(seen) else None
    if champion is None:
        return _follow(seen, now)
    if _own_delayed_commit(seen, now):
        return _revert(seen, now, "an earlier request of Podium took effect late")
    match seen.spec.alias_drift_policy:
        case AliasDriftPolicy.REVERT:
            return _revert(seen, now, "somebody moved the alias")
        case AliasDriftPolicy.ADOPT:
            return _follow(seen, now)
        case AliasDriftPolicy.HOLD:
            return _hold(seen, now)
        case AliasDriftPolicy.ALERT:
            return stall(seen, Reason.ALIAS_DRIFT, _drift_words(seen))


def was_elsewhere(seen: Observation) -> bool:
    """Whether the alias was seen elsewhere last time, and somebody has moved it back since."""
    last = seen.status.attempt
    taken = last is not None and last.phase is Phase.SUPERSEDED
    return seen.alias is not None and (
        was_adrift(seen)
        or (taken and last is not None and last.reason == Reason.ALIAS_TAKEN)
        or _goes_on(seen) is not None
    )


def _goes_on(seen: Observation) -> str | None:
    """With Revert, a rollback that somebody cut short by moving the alias goes on."""
    reverts = seen.spec.alias_drift_policy is AliasDriftPolicy.REVERT
    return way_back(seen) if reverts else None


def _restart_what_followed(seen: Observation, now: datetime) -> Decision | None:
    """A container that started meanwhile loaded the other version. None: the champion is not READY
    any more, and nothing else was good; a new candidate may be tried (`resting`)."""
    champion = seen.alias
    assert champion is not None
    message = "somebody moved the alias, and back"
    if seen.spec.suspend:
        text = f"suspended: {message}; pods that started meanwhile may serve another version"
        return stall(seen, Reason.ALIAS_DRIFT, text)
    to = _where_to(seen) if _goes_on(seen) or not usable(seen, champion) else champion
    if to is None:
        return None
    attempt = begin(seen, now, champion, Origin.DRIFT, previous=champion)
    return turn_back(seen, now, attempt, reason=Reason.ALIAS_REVERTED, message=message, to=to)


def _drift_words(seen: Observation) -> str:
    return (
        f"somebody moved the alias {seen.spec.alias} to {seen.alias or 'nothing'}; the champion "
        f"is {seen.status.champion_version}. Move it back, or change aliasDriftPolicy"
    )


def _own_delayed_commit(seen: Observation, now: datetime) -> bool:
    """Whether an earlier move of ours went to where the alias is, so recently that a request may
    have taken effect only now (the clock may have stepped back meanwhile). To adopt a version
    moves no alias."""
    adopted = {
        entry.attempt
        for entry in seen.status.history
        if entry.action is EntryAction.PROMOTE_INTENT and entry.reason == Origin.ADOPT
    }
    return any(
        entry.action in _OWN_MOVES
        and entry.to == seen.alias
        and abs(now - entry.time) < DELAYED_COMMIT
        and not (entry.action in _PROMOTION and entry.attempt in adopted)
        for entry in seen.status.history
    )


def _revert(seen: Observation, now: datetime, why: str) -> Decision | None:
    """Back to the champion, or to what is right in its place. None: there is nothing to go back
    to, and a new candidate may be tried (`resting`)."""
    champion, to = seen.status.champion_version, _where_to(seen)
    if champion is None or to is None:
        return None
    if seen.spec.suspend:
        return stall(seen, Reason.ALIAS_DRIFT, f"suspended: {_drift_words(seen)}")
    attempt = begin(seen, now, seen.alias or champion, Origin.DRIFT, previous=champion)
    message = f"{why} to {seen.alias or 'nothing'}"
    return turn_back(seen, now, attempt, reason=Reason.ALIAS_REVERTED, message=message, to=to)


def _where_to(seen: Observation) -> str | None:
    """The champion; where it was going, when its rollback ended by somebody's move of the alias;
    when that one is gone or in quarantine, the last good one, or what the spec lets guess."""
    champion = seen.status.champion_version
    wanted = way_back(seen) or champion
    if usable(seen, wanted) and not _is_left(seen, wanted):
        return wanted
    if found := last_good(seen, leaving=champion):
        return found
    if usable(seen, champion):
        return champion
    guesses = seen.spec.rollback.when_unknown is WhenUnknown.USE_ARCHIVED
    return last_archived(seen, leaving=champion) if guesses else None


def _is_left(seen: Observation, version: str | None) -> bool:
    """Whether a hold says that it was gone back from. (The rollback itself is not in the ledger any
    more when its destination was deleted.)"""
    if seen.status.hold is None:
        return False
    for entry in reversed(ledger.known(seen)):
        if entry.action is EntryAction.HELD and entry.from_version == version:
            return True
        if entry.action in BECAME_CHAMPION and entry.to == version:
            return False
    return False


def _follow(seen: Observation, now: datetime) -> Decision | None:
    """Adopt: the version that somebody moved the alias to is tried; refused, the alias goes
    back."""
    if seen.alias is None:
        text = f"the alias {seen.spec.alias} was deleted; set it to a version again in MLflow"
        return stall(seen, Reason.ALIAS_MISSING, text)
    version = seen.version(seen.alias)
    refused = block(seen, version) if version and version.ready else None
    if version is None or not version.ready or refused:
        why = refused.message if refused else f"version {seen.alias} does not exist or is not READY"
        if seen.status.champion is None and seen.spec.candidate is None:
            return stall(seen, Reason.NO_PREVIOUS_CHAMPION, f"{why}; nothing to go back to")
        return _revert(seen, now, f"{why}; somebody moved the alias")
    if seen.status.hold or seen.spec.suspend:
        return stall(seen, Reason.ALIAS_DRIFT, f"held or suspended: {_drift_words(seen)}")
    attempt = begin(seen, now, version.version, Origin.ADOPT, previous=seen.status.champion_version)
    candidate = CandidateStatus(version=version.version, since=now)
    text = f"somebody moved the alias to version {version.version}: it is tried"
    status = replace(seen.status, attempt=attempt, candidate=candidate)
    return persist(status, normal(Reason.ATTEMPT_STARTED, text))


def _hold(seen: Observation, now: datetime) -> Decision | None:
    if seen.status.hold:
        return stall(seen, Reason.ALIAS_DRIFT, _drift_words(seen))
    if _released_since(seen):
        return _follow(seen, now)
    text = _drift_words(seen)
    status = ledger.append(
        seen, seen.status, now, EntryAction.HELD, from_version=seen.alias, reason=text
    )
    held = HoldStatus(since=now, reason=clip(text, REASON_SHOWN), version=seen.alias)
    return persist(replace(status, hold=held), warning(Reason.ALIAS_DRIFT, text))


def _released_since(seen: Observation) -> bool:
    """Whether a person has released the hold over this very drift: then it is followed."""
    released = False
    for entry in reversed(ledger.known(seen)):
        held = entry.action is EntryAction.HELD and entry.decision is None
        if held and entry.from_version == seen.alias:
            return released
        if entry.action is EntryAction.RELEASED and entry.to is None:
            released = True
        elif entry.action in _MOVES:
            return False
    return False


_MOVES = frozenset({EntryAction.PROMOTED, EntryAction.ROLLED_BACK, EntryAction.REVERTED})
_PROMOTION = frozenset({EntryAction.PROMOTE_INTENT, EntryAction.PROMOTED})
_OWN_MOVES = (
    _MOVES | _PROMOTION | frozenset({EntryAction.ROLLBACK_INTENT, EntryAction.REVERT_INTENT})
)
