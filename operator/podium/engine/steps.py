"""Steps and chains: the form that every decision has.

A step looks at what is seen and either lets the next one look (None) or decides. A chain is
a list of steps read top to bottom; the first that decides wins. Nothing is remembered but
status, and nothing is done here.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.promotion_status import PromotionStatus
from podium.api.reasons import Reason
from podium.engine.decision import Action, Decision, Event, EventType
from podium.engine.observation import Observation, Problem, ProblemKind

Step = Callable[[Observation, datetime], Decision | None]
Chain = tuple[Step, ...]

NOW = timedelta(0)
SOON = timedelta(seconds=2)  # while pods start: the Deployment's watch usually comes first
OBSERVE = timedelta(seconds=15)  # in Baking: intervals up to 30 s count
SLOWLY = timedelta(minutes=5)


def first_decision(chain: Chain, seen: Observation, now: datetime) -> Decision | None:
    return next((made for step in chain if (made := step(seen, now)) is not None), None)


def act(seen: Observation, *actions: Action, events: tuple[Event, ...] = ()) -> Decision:
    """Changes the world, by what is persisted already; the next pass looks at what came of it."""
    return Decision(seen.status, actions=actions, events=events, requeue_after=NOW)


def persist(status: PromotionStatus, *events: Event) -> Decision:
    """Writes what is about to happen, or what was seen to have happened; goes on at once."""
    return Decision(status, events=events, requeue_after=NOW)


def wait(
    seen: Observation,
    reason: Reason,
    message: str,
    after: timedelta | None = SOON,
    kind: ProblemKind = ProblemKind.WAITING,
) -> Decision:
    """Goes no further now. `after` None: a hint will come. The message shows on the attempt."""
    return blocked(seen, Problem(kind, reason, message), after)


def stall(seen: Observation, reason: Reason, message: str) -> Decision:
    """A person must act."""
    return wait(seen, reason, message, SLOWLY, ProblemKind.STALLED)


def blocked(seen: Observation, problem: Problem, after: timedelta | None = SLOWLY) -> Decision:
    status = seen.status
    if attempt := status.active:
        said = replace(attempt, reason=problem.reason.value, message=clip(problem.message))
        status = replace(status, attempt=said)
    return Decision(status, requeue_after=after, problem=problem)


def normal(reason: Reason, message: str) -> Event:
    return Event(EventType.NORMAL, reason, message)


def warning(reason: Reason, message: str) -> Event:
    return Event(EventType.WARNING, reason, message)


MESSAGE = 384  # bytes of a condition's message


def clip(text: str, limit: int = MESSAGE) -> str:
    """At most so many bytes of UTF-8: texts in status are bounded, so that the whole stays under
    32 KiB."""
    if len(text.encode()) <= limit:
        return text
    return text.encode()[: limit - 3].decode(errors="ignore") + "…"
