"""The conditions: one summary, written once at the end of each pass (after Flux).

`Ready` is about what is served, so a waiting attempt does not change it. `Stalled` carries
the reason of whatever is in the way (else that of `Ready`: `kubectl get` shows this one), and
is True only when a person must act.
"""

from dataclasses import replace as replaced
from datetime import datetime

import msgspec
from msgspec.structs import replace

from podium.api.ledger_entry import LedgerEntry
from podium.api.meta import Condition, ConditionStatus
from podium.api.promotion import Target
from podium.api.promotion_status import ChampionStatus, Phase, PromotionStatus, TargetStatus
from podium.api.reasons import ConditionType, Reason
from podium.api.values import encode_hook
from podium.engine import ledger, serving
from podium.engine.observation import Observation, Problem, ProblemKind, TargetState
from podium.engine.steps import MESSAGE, clip

STATUS_BYTES = 31 * 1024  # of the 32 KiB that are promised
ROOM = 256  # bytes of a message that leave room for what stands beside it
_MOVING = frozenset({Phase.PROMOTING, Phase.VERIFYING, Phase.ROLLING_BACK})


def summarize(
    seen: Observation, status: PromotionStatus, problem: Problem | None, now: datetime
) -> PromotionStatus:
    """The status with its conditions, its targets and the generation that it speaks of."""
    if status.champion and seen.targets:
        status = replace(status, champion=_with_targets(seen, status.champion))
    changing = _changing(seen, status)
    ready = _ready(seen, status, problem, changing)
    wanted = (
        ready,
        _reconciling(changing, status),
        _stalled(status, problem, ready),
        _attempt_active(status),
    )
    before = {condition.type: condition for condition in seen.status.conditions}
    generation = seen.promotion.metadata.generation
    conditions = tuple(
        _condition(before.get(kind), kind, truth, reason, message, generation, now)
        for kind, truth, reason, message in wanted
    )
    status = replace(status, conditions=conditions, observed_generation=generation)
    return replace(status, history=_fitting(seen, status))


def _fitting(seen: Observation, status: PromotionStatus) -> tuple[LedgerEntry, ...]:
    """As much of the history as fits into the status. Never cut: what MLflow does not have."""
    room = STATUS_BYTES - _size(replace(status, history=()))
    mirrored = ledger.mirrored(seen, status.history)
    kept: list[LedgerEntry] = []
    for entry in reversed(status.history):
        room -= _size(entry)
        if room < 0 and entry.seq <= mirrored:
            break
        kept.insert(0, entry)
    return tuple(kept)


def _size(value: PromotionStatus | LedgerEntry) -> int:
    return len(msgspec.json.encode(value, enc_hook=encode_hook)) + 100  # the signature to come


Wanted = tuple[ConditionType, bool, Reason, str]

_MISSING = frozenset(
    {
        Reason.REGISTRY_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        Reason.MODEL_NOT_FOUND,
        Reason.VERSION_NOT_FOUND,
        Reason.TARGET_NOT_FOUND,
    }
)


def is_news(problem: Problem) -> bool:
    """Whether it is told by an Event: not what is waited for in the normal course of things."""
    return problem.kind is not ProblemKind.WAITING or problem.reason in _MISSING


def is_said(problem: Problem, said: Condition) -> bool:
    """Whether Stalled tells of it already, alone or beside what a person must do."""
    if said.reason != problem.reason:
        return _beside(problem) in said.message
    # A server that is away says so in several words: connection reset, then refused.
    return problem.kind is ProblemKind.TRANSIENT or said.message == clip(problem.message)


def _with_other(text: str, problem: Problem | None, held: str = "") -> str:
    """The other trouble stands beside it: status is what remembers that it was told."""
    other = f"{_beside(problem)}{problem.message}" if problem and is_news(problem) else ""
    room = (ROOM if other else MESSAGE) - len(held.encode())
    return f"{clip(text, room)}{held}{other}"


def _beside(problem: Problem) -> str:
    return f"; {problem.reason}: "


def _with_targets(seen: Observation, champion: ChampionStatus) -> ChampionStatus:
    targets = tuple(
        TargetStatus(
            name=state.name,
            version=state.model_version or (champion.version if state.problem is None else None),
            ready=state.settled,
        )
        for state in seen.targets
    )
    return replace(champion, targets=targets)


def _changing(seen: Observation, status: PromotionStatus) -> bool:
    attempt = status.active
    moving = attempt is not None and bool(attempt.move_id or attempt.rollback)
    return moving and attempt is not None and attempt.phase in _MOVING


def _ready(
    seen: Observation, status: PromotionStatus, problem: Problem | None, changing: bool
) -> Wanted:
    kind = ConditionType.READY
    if changing:
        attempt = status.active
        assert attempt is not None
        to = attempt.rollback.to if attempt.rollback else attempt.version
        return kind, False, Reason.ROLLING_OUT, f"changing to version {to}"
    if status.champion is None:
        reason = problem.reason if problem else Reason.NO_CHAMPION
        return kind, False, reason, problem.message if problem else "no version is served yet"
    version = status.champion.version
    if seen.model is not None and seen.alias != version:
        text = f"the alias is at {seen.alias or 'nothing'}, the champion is {version}"
        return kind, False, Reason.ALIAS_DRIFT, text
    active = status.active
    if was_adrift(seen) and not (active and active.move_id):
        text = f"the alias is at {version} again; what loaded another version is restarted"
        return kind, False, Reason.ALIAS_DRIFT, text
    if trouble := serving.target_problem(seen):
        return kind, False, trouble.reason, trouble.message
    if any(not state.settled for state in seen.targets):
        return kind, False, Reason.TARGET_NOT_READY, serving.describe(seen)
    wrong = [s.name for t, s in serving.pairs(seen) if not _serves(seen, status, t, s)]
    if wrong:
        return kind, False, Reason.TARGET_NOT_READY, f"{wrong[0]} does not carry version {version}"
    suffix = _warnings(seen)
    return kind, True, Reason.CHAMPION_SERVED, f"version {version} is served{suffix}"


def was_adrift(seen: Observation) -> bool:
    """Whether status still says that the alias is elsewhere: it is the memory of a drift that
    somebody has ended, until the targets were looked at."""
    before = next((c for c in seen.status.conditions if c.type == ConditionType.READY), None)
    return before is not None and before.reason == Reason.ALIAS_DRIFT


def _serves(seen: Observation, status: PromotionStatus, target: Target, state: TargetState) -> bool:
    after = replaced(seen, promotion=replace(seen.promotion, status=status))
    return serving.serves_as_is(after, target, state)


def _warnings(seen: Observation) -> str:
    """Targets whose rollouts are not safe are named, not refused."""
    unsafe = [
        f"{state.name}: {why}"
        for target, state in serving.pairs(seen)
        for bad, why in (
            (state.recreate, "strategy Recreate"),
            (state.desired == 1, "one replica"),
            (state.paused, "paused"),
            (state.autoscaled and not serving.by_version(target), "HPA in Alias mode"),
        )
        if bad
    ]
    return f" ({Reason.UNSAFE_TARGET}: {', '.join(unsafe)})" if unsafe else ""


def _reconciling(changing: bool, status: PromotionStatus) -> Wanted:
    attempt = status.active
    if changing and attempt:
        return ConditionType.RECONCILING, True, Reason.ROLLING_OUT, attempt.message
    return ConditionType.RECONCILING, False, Reason.UP_TO_DATE, ""


_NOWHERE_TO_GO = (Reason.NO_PREVIOUS_CHAMPION, Reason.NO_DESTINATION)


def _stalled(status: PromotionStatus, problem: Problem | None, ready: Wanted) -> Wanted:
    kind = ConditionType.STALLED
    if problem is not None and problem.kind is ProblemKind.STALLED:
        return kind, True, problem.reason, problem.message
    attempt = status.attempt
    failed = _failed_and_stayed(status)
    if attempt and attempt.reason in _NOWHERE_TO_GO and (failed or not ready[1]):
        text = _with_other(attempt.message, problem, _held_too(status))
        return kind, True, Reason(attempt.reason), text
    if failed and status.active is None:
        text = _with_other(failed, problem, _held_too(status))
        return kind, True, Reason.NO_PREVIOUS_CHAMPION, text
    if status.hold:
        text = f"{status.hold.reason}; a Release lifts the hold"
        return kind, True, Reason.HELD, _with_other(text, problem)
    _, _, reason, message = ready
    unserved = reason is Reason.TARGET_NOT_READY  # comes before what a candidate waits for
    if problem is not None and (is_news(problem) or not unserved):
        # What waits by itself never hides what a person must do.
        return kind, False, problem.reason, problem.message
    return kind, False, reason, message


def _failed_and_stayed(status: PromotionStatus) -> str | None:
    """The champion is in quarantine, and only stays because there is nothing to go back to."""
    champion = status.champion_version
    why = next((item.reason for item in status.quarantined if item.version == champion), None)
    return why and f"version {champion} stays, though it is in quarantine ({why})"


def _held_too(status: PromotionStatus) -> str:
    """With the reason where that is not what was said before."""
    hold, attempt = status.hold, status.attempt
    if hold is None:
        return ""
    own = attempt is not None and hold.version == attempt.version
    return f"; held{'' if own else f' ({hold.reason})'}: a Release lifts the hold"


def _attempt_active(status: PromotionStatus) -> Wanted:
    kind = ConditionType.ATTEMPT_ACTIVE
    attempt = status.attempt
    if attempt is None:
        return kind, False, Reason.NO_ATTEMPT, ""
    text = f"version {attempt.version} {attempt.phase}"
    text = f"{text}: {attempt.message}" if attempt.message else text
    return kind, not attempt.phase.terminal, Reason(attempt.phase.value), text


def _condition(
    before: Condition | None,
    kind: ConditionType,
    truth: bool,
    reason: Reason,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    status = ConditionStatus.TRUE if truth else ConditionStatus.FALSE
    same = before is not None and before.status is status
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=clip(message),
        last_transition_time=before.last_transition_time
        if same and before
        else now.replace(microsecond=0),
        observed_generation=generation,
    )
