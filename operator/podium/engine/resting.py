"""At rest: no attempt runs. Keeps alias, stage and targets at the champion, and begins the
next attempt when the selector points at something new."""

from datetime import datetime

from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction
from podium.api.promotion_status import AttemptStatus, CandidateStatus, Origin, Phase
from podium.api.reasons import Reason
from podium.engine import ledger, serving, stages
from podium.engine.attempts import begin, move_id
from podium.engine.candidate import block, select, tried_first
from podium.engine.decision import ApplyTarget, Decision
from podium.engine.digests import candidate_digest
from podium.engine.drifting import follow_or_revert, was_elsewhere
from podium.engine.late import note_that_it_came_good, promote_what_came_good
from podium.engine.observation import Observation
from podium.engine.steps import (
    SLOWLY,
    Chain,
    act,
    blocked,
    first_decision,
    normal,
    persist,
    stall,
    wait,
)

REFUSED = (Phase.REJECTED, Phase.EXPIRED, Phase.SUPERSEDED)  # what moved and failed is Archived


def resting(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(RESTING, seen, now)


def return_refused_from_staging(seen: Observation, now: datetime) -> Decision | None:
    """A refused candidate does not stay in Staging, if Podium brought it there. Comes before the
    next attempt, which takes the place of this one in status."""
    attempt = seen.status.attempt
    if attempt is None or attempt.phase not in REFUSED or seen.action_problem:
        return None
    if attempt.version in (_stays(seen, attempt), seen.status.champion_version):
        return None
    if attempt.rollback and attempt.origin is not Origin.DRIFT:  # cut short; it failed all the same
        transition = stages.archive_failed(seen, attempt.version)
    else:
        transition = stages.back_from_staging(seen, attempt.version, attempt.staged_from)
    return act(seen, transition) if transition else None


def _stays(seen: Observation, attempt: AttemptStatus) -> str | None:
    """What the alias is at, but for what somebody moved it to in vain: it goes back from there."""
    return None if attempt.origin is Origin.ADOPT else seen.alias


def keep_stages(seen: Observation, now: datetime) -> Decision | None:
    """Also what keeps exactly one version in Production when somebody else changes stages. With
    a stage as selector, what somebody put there is tried first."""
    champion = seen.status.champion_version
    if champion is None:
        return None
    transition = stages.next_transition(seen, champion, at_rest=True)
    if transition is None:
        return None
    return None if transition.version == tried_first(seen) else act(seen, transition)


def undo_late_staging(seen: Observation, now: datetime) -> Decision | None:
    transition = stages.undo_late_staging(seen, now)
    return act(seen, transition) if transition else None


def put_targets_right(seen: Observation, now: datetime) -> Decision | None:
    """A target that carries another move (rollout undo), or in Version mode another version. Not
    while the alias is elsewhere: new pods would load what it says."""
    champion = seen.status.champion
    if champion is None or seen.spec.suspend or seen.alias != champion.version:
        return None
    if seen.version(champion.version) is None:
        return None
    wrong = [
        target
        for target, state in serving.pairs(seen)
        if state.problem is None and not serving.serves_as_is(seen, target, state)
    ]
    if not wrong:
        return None
    if champion.move_id is None:
        moved = replace(champion, move_id=move_id(seen, now, f"serve {champion.version}"))
        return persist(replace(seen.status, champion=moved))
    return act(
        seen, *(ApplyTarget(target.name, champion.version, champion.move_id) for target in wrong)
    )


def note_candidate(seen: Observation, now: datetime) -> Decision | None:
    """Since when a version is the candidate: what minAge counts from."""
    found = select(seen)
    noted = seen.status.candidate
    if found is None:
        return persist(replace(seen.status, candidate=None)) if noted else None
    if noted and noted.version == found.version:
        return None
    candidate = CandidateStatus(version=found.version, since=seen.candidate_since or now)
    return persist(replace(seen.status, candidate=candidate))


def start_attempt(seen: Observation, now: datetime) -> Decision | None:
    found = select(seen)
    if found is None or found.version == seen.status.champion_version:
        return None
    if refused := block(seen, found):
        # `say_what_is_missing` says more
        lost = seen.alias != seen.status.champion_version or was_elsewhere(seen)
        return None if lost else wait(seen, refused.reason, refused.message, None)
    if seen.spec.suspend:
        return wait(seen, Reason.SUSPENDED, "spec.suspend is true: no step forward", None)
    if (held := seen.status.hold) and not _names_failed_version(seen, held.version, found.version):
        text = f"held ({held.reason}): a PromotionDecision Release lets it go on"
        return wait(seen, Reason.HELD, text, None)
    attempt = begin(seen, now, found.version, Origin.CANDIDATE, previous=seen.alias)
    text = f"version {found.version} is tried"
    status = seen.status
    if held:
        why = "spec.candidate names it: the hold is lifted"
        status = ledger.append(
            seen, status, now, EntryAction.RELEASED, to=found.version, reason=why
        )
        status = replace(status, hold=None)
    return persist(replace(status, attempt=attempt), normal(Reason.ATTEMPT_STARTED, text))


def _names_failed_version(seen: Observation, failed: str | None, candidate: str) -> bool:
    """A hold over a failed version is lifted by a change of spec.candidate that names it."""
    selector, held = seen.spec.candidate, EntryAction.HELD
    if selector is None or not selector.version == candidate == failed:
        return False
    entries = (e for e in reversed(ledger.known(seen)) if e.action is held)
    entry = next((e for e in entries if e.from_version == failed), None)
    return entry is None or entry.candidate != candidate_digest(seen.spec)


def say_what_is_missing(seen: Observation, now: datetime) -> Decision | None:
    champion = seen.status.champion_version
    if seen.alias != champion:
        text = (
            f"the alias {seen.spec.alias} is at {seen.alias or 'no version'}, the champion was "
            f"{champion or 'none'}, and there is no version to go back to. Register a better one, "
            f"or create a PromotionDecision Rollback with a version"
        )
        return stall(seen, Reason.NO_PREVIOUS_CHAMPION, text)
    if was_elsewhere(seen):
        text = (
            f"somebody moved the alias {seen.spec.alias} and back to {champion}, which is not "
            f"READY or in quarantine, and there is no version to go back to: pods that started "
            f"meanwhile may serve another version. Register a better one, or create a "
            f"PromotionDecision Rollback with a version"
        )
        return stall(seen, Reason.NO_PREVIOUS_CHAMPION, text)
    if problem := serving.target_problem(seen):
        return blocked(seen, problem, SLOWLY)
    if missing := _pin_that_leads_nowhere(seen):
        return wait(seen, *missing, None)
    if seen.status.champion is None:
        if seen.spec.candidate:
            text = "the selector finds no READY version yet"
            return wait(seen, Reason.NO_CANDIDATE, text, None)
        text = f"alias {seen.spec.alias} points at no version; set it in MLflow"
        return wait(seen, Reason.NO_CHAMPION, text, None)
    return None


def _pin_that_leads_nowhere(seen: Observation) -> tuple[Reason, str] | None:
    pin = seen.spec.candidate.version if seen.spec.candidate else None
    if pin is None or select(seen) is not None:
        return None
    if seen.version(pin) is None:
        text = f"model {seen.spec.model} has no version {pin}, which spec.candidate names"
        return Reason.VERSION_NOT_FOUND, text
    return Reason.VERSION_NOT_READY, f"version {pin}, which spec.candidate names, is not READY yet"


RESTING: Chain = (
    follow_or_revert,
    note_that_it_came_good,
    promote_what_came_good,
    keep_stages,
    undo_late_staging,
    put_targets_right,
    note_candidate,
    start_attempt,
    say_what_is_missing,
)
