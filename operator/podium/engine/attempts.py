"""The life of an attempt: begun, taken from phase to phase, ended, turned back.

Each function gives the next status with the ledger entries that belong to it. Which of
them is called, and when, is decided in the phases' own files.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion import WhenUnknown
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
from podium.engine.candidate import (
    last_archived,
    last_good,
    usable,
    verdict,
    verdict_inputs,
    way_back,
)
from podium.engine.decision import Decision
from podium.engine.digests import candidate_digest, short_id
from podium.engine.observation import Observation
from podium.engine.steps import clip, normal, persist, warning

QUARANTINE_SHOWN = 20  # in status; the ledger has all
NAME_SHOWN = 253  # bytes of who decided
REASON_SHOWN = 128  # bytes of why, beside a quarantine and a hold


def move_id(seen: Observation, now: datetime, purpose: str) -> str:
    """Unique for every move, so that a rollback never reuses the ReplicaSet of an earlier move:
    a pod of it that restarted meanwhile holds the other version (tried: 6 -> 7 -> 6)."""
    meta = seen.promotion.metadata
    return short_id(meta.uid, seen.status.ledger_seq, purpose, now.isoformat())


def begin(
    seen: Observation,
    now: datetime,
    version: str,
    origin: Origin,
    *,
    previous: str | None,
) -> AttemptStatus:
    """`previous`: where the alias is, or was before somebody moved it."""
    return AttemptStatus(
        id=f"{version}-{move_id(seen, now, origin)[:6]}",
        version=version,
        phase=Phase.VALIDATING,
        origin=origin,
        started_at=now,
        phase_started_at=now,
        previous=previous,
        candidate_digest=candidate_digest(seen.spec),
    )


def entered(
    attempt: AttemptStatus, phase: Phase, now: datetime, limit: timedelta | None = None
) -> AttemptStatus:
    """The attempt in its next phase; `limit` is how long that may take."""
    return replace(
        attempt,
        phase=phase,
        phase_started_at=now,
        deadline=now + limit if limit is not None else None,
        gates=tuple(replace(gate, silent_since=None) for gate in attempt.gates),
        reason=None,
        message="",
    )


_ENDINGS = {
    Phase.REJECTED: EntryAction.REJECTED,
    Phase.EXPIRED: EntryAction.EXPIRED,
    Phase.SUPERSEDED: EntryAction.SUPERSEDED,
}


def end(
    seen: Observation,
    now: datetime,
    phase: Phase,
    reason: Reason,
    message: str,
    *,
    decision: str | None = None,
    by: str | None = None,
) -> Decision:
    """Ends an attempt that has moved nothing. The verdict sticks by its ledger entry."""
    attempt = seen.attempt
    assert attempt is not None
    version = seen.version(attempt.version)
    status = ledger.append(
        seen,
        seen.status,
        now,
        _ENDINGS[phase],
        to=attempt.version,
        attempt=attempt.id,
        reason=f"{reason}: {message}",
        evidence=attempt.evidence_digest,
        inputs=verdict_inputs(seen, version) if version else None,
        decision=decision,
        by=by,
    )
    over = replace(entered(attempt, phase, now), reason=reason.value, message=clip(message))
    say = normal if phase is Phase.SUPERSEDED else warning
    return persist(
        replace(status, attempt=over),
        say(reason, f"version {attempt.version} {phase.value.lower()}: {message}"),
    )


def turn_back(
    seen: Observation,
    now: datetime,
    attempt: AttemptStatus,
    *,
    reason: Reason,
    message: str,
    quarantine: bool = False,
    hold: bool = False,
    to: str | None = None,
    decision: str | None = None,
    by: str | None = None,
) -> Decision:
    """Begins to roll back: where to, under which new move id, and what becomes of the version.
    Intent, quarantine and hold are in the ledger before anything moves; the hold before the
    intent, since who reads status back in between must not go on without it."""
    drift = attempt.origin is Origin.DRIFT
    destination, inferred = (to, False) if to else destination_of(seen, attempt)
    if destination is None:
        why = message if drift else f"version {attempt.version} failed ({message})"
        text = f"{why} and there is no version to go back to"
        return give_up(seen, now, attempt, Reason.NO_PREVIOUS_CHAMPION, text, quarantine=quarantine)
    if inferred and seen.spec.rollback.when_unknown is WhenUnknown.HOLD:
        text = f"{message}; {_choices(seen, attempt)}"
        return give_up(
            seen, now, attempt, Reason.NO_DESTINATION, text, quarantine=quarantine, hold=True
        )
    move = move_id(seen, now, f"back to {destination}")
    why = f"{reason}: {message}"
    status = ledger.append(
        seen,
        _held(seen, seen.status, now, attempt, why, by) if hold else seen.status,
        now,
        EntryAction.REVERT_INTENT if drift else EntryAction.ROLLBACK_INTENT,
        from_version=attempt.version,
        to=destination,
        attempt=attempt.id,
        move_id=move,
        reason=why,
        decision=decision,
        by=by,
    )
    if quarantine:
        status = _quarantined(seen, status, now, attempt, why)
    going = replace(
        entered(attempt, Phase.ROLLING_BACK, now, seen.spec.rollout.progress_deadline.delta),
        reason=reason.value,
        message=clip(message),
        rollback=RollbackStatus(
            to=destination,
            move_id=move,
            reason=reason.value,
            message=clip(message),
            quarantine=quarantine,
            hold=hold,
            inferred=inferred,
            decision=decision,
            by=by and clip(by, NAME_SHOWN),
        ),
    )
    text = f"going back from version {attempt.version} to {destination}: {message}"
    return persist(replace(status, attempt=going), warning(reason, text))


def destination_of(seen: Observation, attempt: AttemptStatus) -> tuple[str | None, bool]:
    """Before the outcome entry: where the alias was at intent, unless that was being left. After
    it: the last good one by the ledger; without one, a guess (second value true)."""
    before_outcome = seen.status.champion_version != attempt.version
    elsewhere = attempt.previous != attempt.version  # a rollback may be sent on in mid-move
    fits = before_outcome and elsewhere and usable(seen, attempt.previous)
    fits = fits and not _refused(seen, attempt.previous)
    left = attempt.previous == seen.status.champion_version and way_back(seen) is not None
    if fits and not left:
        return attempt.previous, False
    leaving = None if attempt.origin is Origin.DRIFT else attempt.version
    if found := last_good(seen, leaving=leaving):
        return found, False
    if fits:
        return attempt.previous, False
    guess = last_archived(seen, leaving=leaving)
    return guess, guess is not None


def _refused(seen: Observation, version: str | None) -> bool:
    """Whether the alias only stood there because somebody gave it, and it was refused."""
    if version is None or version == seen.status.champion_version:
        return False
    return verdict(seen, version) is not None


def _quarantined(
    seen: Observation, status: PromotionStatus, now: datetime, attempt: AttemptStatus, why: str
) -> PromotionStatus:
    """In the ledger and in status."""
    action, version = EntryAction.QUARANTINED, attempt.version
    status = ledger.append(seen, status, now, action, to=version, attempt=attempt.id, reason=why)
    item = QuarantineStatus(version=version, reason=clip(why, REASON_SHOWN), since=now)
    others = tuple(q for q in status.quarantined if q.version != version)
    return replace(status, quarantined=(*others, item)[-QUARANTINE_SHOWN:])


def _held(
    seen: Observation,
    status: PromotionStatus,
    now: datetime,
    attempt: AttemptStatus,
    why: str,
    by: str | None = None,
) -> PromotionStatus:
    """In the ledger and in status."""
    status = ledger.append(
        seen,
        status,
        now,
        EntryAction.HELD,
        from_version=attempt.version,
        attempt=attempt.id,
        reason=why,
        by=by,
    )
    held = HoldStatus(since=now, reason=clip(why, REASON_SHOWN), version=attempt.version)
    return replace(status, hold=held_by_person(status) or held)


def held_by_person(status: PromotionStatus) -> HoldStatus | None:
    """No change of spec.candidate lifts it, and no other hold takes its place."""
    by_person = status.hold is not None and status.hold.reason.startswith(Reason.HELD_BY_DECISION)
    return status.hold if by_person else None


def give_up(
    seen: Observation,
    now: datetime,
    attempt: AttemptStatus,
    reason: Reason,
    message: str,
    *,
    quarantine: bool,
    hold: bool = False,
) -> Decision:
    """A version failed and it is not known where to go back to: the alias stays where it is, and
    what it is at is the champion; unless it was somebody else that moved it there."""
    drift = attempt.origin is Origin.DRIFT
    why = f"{reason}: {message}"
    status = seen.status
    if quarantine:
        status = _quarantined(seen, status, now, attempt, why)
    if hold:
        status = _held(seen, status, now, attempt, why)
    status = ledger.append(
        seen,
        status,
        now,
        EntryAction.ABANDONED if drift else EntryAction.REJECTED,
        to=attempt.version,
        attempt=attempt.id,
        move_id=attempt.move_id,
        reason=why,
    )
    phase = Phase.SUPERSEDED if drift else Phase.REJECTED
    over = replace(entered(attempt, phase, now), reason=reason.value, message=clip(message))
    if seen.alias == attempt.version and not drift:
        champion = ChampionStatus(version=attempt.version, since=now, move_id=attempt.move_id)
        status = replace(status, champion=champion)
    return persist(replace(status, attempt=over), warning(reason, message))


def _choices(seen: Observation, attempt: AttemptStatus) -> str:
    versions = seen.model.versions.values() if seen.model else ()
    others = (v for v in versions if v.version != attempt.version and usable(seen, v.version))
    newest = sorted(others, key=lambda v: -v.number)[:5]
    named = ", ".join(f"{v.version} ({v.stage.value})" for v in newest) or "none exists"
    return (
        "the ledger names no earlier champion. Choose with a PromotionDecision Rollback and a "
        f"version: {named}"
    )
