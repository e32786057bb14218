"""Drift: somebody else moved the alias. In mid-attempt the attempt ends; at rest the
aliasDriftPolicy decides.

An alias at the candidate counts as Podium's own move only with a persisted intent.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion import AliasDriftPolicy
from podium.api.promotion_status import AttemptStatus, HoldStatus, Origin, Phase
from podium.api.reasons import Reason
from podium.engine import ledger
from podium.engine.attempts import begin, end, entered, turn_back
from podium.engine.candidate import block
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.steps import clip, normal, persist, stall, warning
from podium.engine.validating import running

DELAYED_COMMIT = timedelta(minutes=2)  # how late a request of ours may still take effect


def end_if_alias_was_taken(seen: Observation, now: datetime) -> Decision | None:
    """In mid-attempt: an alias that is neither where it was nor where the intent says."""
    attempt = running(seen)
    if seen.alias in _expected(seen, attempt):
        return _follow_back(seen, now, attempt)
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
    if attempt.rollback:
        return frozenset(
            {attempt.version, attempt.previous, attempt.rollback.to, *_missing(attempt)}
        )
    if attempt.origin is Origin.ADOPT:
        return frozenset({attempt.version, *({attempt.previous} if attempt.move_id else ())})
    if attempt.move_id is None:
        return frozenset({attempt.previous})
    return frozenset({attempt.previous, attempt.version})


def _missing(attempt: AttemptStatus) -> tuple[None, ...]:
    """A deleted alias is what a revert may start from."""
    return (None,) if attempt.origin is Origin.DRIFT else ()


def _follow_back(seen: Observation, now: datetime, attempt: AttemptStatus) -> Decision | None:
    """Policy Adopt: whoever gives the alias back in Verifying or Baking wants to go back."""
    follows = seen.spec.alias_drift_policy is AliasDriftPolicy.ADOPT
    watching = attempt.phase in (Phase.VERIFYING, Phase.BAKING) and attempt.origin is Origin.ADOPT
    if not follows or not watching or seen.alias == attempt.version or seen.alias is None:
        return None
    message = f"somebody gave the alias back to {seen.alias}"
    return turn_back(seen, now, attempt, reason=Reason.ALIAS_TAKEN, message=message, to=seen.alias)


def follow_or_revert(seen: Observation, now: datetime) -> Decision | None:
    """At rest: the alias is not at the champion."""
    champion = seen.status.champion_version
    if seen.alias == champion:
        return None
    if champion is None:
        return _follow(seen, now)
    if seen.alias is not None and _own_delayed_commit(seen, now):
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


def _drift_words(seen: Observation) -> str:
    return (
        f"somebody moved the alias {seen.spec.alias} to {seen.alias or 'nothing'}; the champion "
        f"is {seen.status.champion_version}. Move it back, or change aliasDriftPolicy"
    )


def _own_delayed_commit(seen: Observation, now: datetime) -> bool:
    """Whether the alias is where our last move came from, only just after it."""
    went = (EntryAction.ROLLED_BACK, EntryAction.REVERTED, EntryAction.PROMOTED)
    last = next((e for e in reversed(seen.status.history) if e.action in went), None)
    return last is not None and last.from_version == seen.alias and now - last.time < DELAYED_COMMIT


def _revert(seen: Observation, now: datetime, why: str) -> Decision | None:
    champion = seen.status.champion_version
    assert champion is not None
    if seen.spec.suspend:
        return stall(seen, Reason.ALIAS_DRIFT, f"suspended: {_drift_words(seen)}")
    attempt = begin(seen, now, seen.alias or champion, Origin.DRIFT, Phase.ROLLING_BACK)
    message = f"{why} to {seen.alias or 'nothing'}"
    return turn_back(seen, now, attempt, reason=Reason.ALIAS_REVERTED, message=message, to=champion)


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
        if seen.status.champion is None:
            return stall(seen, Reason.NO_PREVIOUS_CHAMPION, f"{why}; nothing to go back to")
        return _revert(seen, now, f"{why}; somebody moved the alias")
    if seen.status.hold or seen.spec.suspend:
        return stall(seen, Reason.ALIAS_DRIFT, f"held or suspended: {_drift_words(seen)}")
    attempt = begin(seen, now, version.version, Origin.ADOPT)
    text = f"somebody moved the alias to version {version.version}: it is tried"
    return persist(replace(seen.status, attempt=attempt), normal(Reason.ATTEMPT_STARTED, text))


def _hold(seen: Observation, now: datetime) -> Decision | None:
    if seen.status.hold:
        return stall(seen, Reason.ALIAS_DRIFT, _drift_words(seen))
    if _released_since(seen):
        return _follow(seen, now)
    text = _drift_words(seen)
    status = ledger.append(
        seen, seen.status, now, EntryAction.HELD, from_version=seen.alias, reason=text
    )
    held = HoldStatus(since=now, reason=clip(text, 256), version=seen.alias)
    return persist(replace(status, hold=held), warning(Reason.ALIAS_DRIFT, text))


def _released_since(seen: Observation) -> bool:
    """Whether a person has released the hold over this very drift: then it is followed."""
    released = False
    for entry in reversed(ledger.known(seen)):
        if entry.action is EntryAction.HELD and entry.from_version == seen.alias:
            return released
        if entry.action is EntryAction.RELEASED and entry.to is None:
            released = True
        elif entry.action in _MOVES:
            return False
    return False


_MOVES = frozenset({EntryAction.PROMOTED, EntryAction.ROLLED_BACK, EntryAction.REVERTED})
