"""One reconcile, decided: the table of contents of the operator's behaviour.

Read `ALWAYS` from top to bottom, then the chain of the phase that the attempt is in.
"""

from dataclasses import replace as replaced
from datetime import datetime

from podium.api.promotion_status import Phase
from podium.api.reasons import ConditionType, Reason
from podium.engine import ledger, serving, tags
from podium.engine.answering import answer_decisions
from podium.engine.awaiting_approval import awaiting_approval
from podium.engine.baking import baking
from podium.engine.claiming import claim, yield_to_older
from podium.engine.decision import Decision, Event, MirrorEntry
from podium.engine.drifting import end_if_alias_was_taken
from podium.engine.late import note_that_it_came_good
from podium.engine.observation import Observation, Problem
from podium.engine.promoting import promoting
from podium.engine.recreated import begin_anew, with_creation_time
from podium.engine.resting import put_targets_right, resting, return_refused_from_staging
from podium.engine.restoring import restore
from podium.engine.rolling_back import rolling_back
from podium.engine.steps import (
    SOON,
    Chain,
    Step,
    act,
    blocked,
    first_decision,
    stall,
    wait,
    warning,
)
from podium.engine.summary import is_news, is_said, summarize
from podium.engine.validating import validating
from podium.engine.verifying import verifying


def decide(seen: Observation, now: datetime) -> Decision:
    """What to write and what to do next. Pure: the same observation and time, the same answer."""
    decision = first_decision(ALWAYS, seen, now) or Decision(seen.status)
    problem = _problem(seen, decision)
    status = with_creation_time(seen, decision.status)
    status = summarize(seen, status, problem, now)
    events = (*decision.events, *_told_once(seen, problem))
    return replaced(decision, status=status, events=events, problem=problem)


def _problem(seen: Observation, decision: Decision) -> Problem | None:
    """What an action met with stands until the action is not wanted any more."""
    return seen.action_problem if decision.actions and seen.action_problem else decision.problem


def _told_once(seen: Observation, problem: Problem | None) -> tuple[Event, ...]:
    """An Event when something comes into the way, none while it stays. What an attempt waits for
    in the normal course of things is told by the conditions alone."""
    if problem is None or not is_news(problem):
        return ()
    said = next((c for c in seen.status.conditions if c.type == ConditionType.STALLED), None)
    if said is not None and is_said(problem, said):
        return ()
    return (warning(problem.reason, problem.message),)


def stop_if_deleting(seen: Observation, now: datetime) -> Decision | None:
    """Deleting a promotion moves no alias, strips no field, restarts no pod."""
    return Decision(seen.status) if seen.promotion.metadata.deletion_timestamp else None


def yield_to_rival(seen: Observation, now: datetime) -> Decision | None:
    return blocked(seen, seen.rival) if seen.rival else None


def wait_while_registry_is_away(seen: Observation, now: datetime) -> Decision | None:
    """I4: nothing that serves changes."""
    problem = seen.registry_problem
    return blocked(seen, problem, seen.poll_interval) if problem else None


def wait_for_model(seen: Observation, now: datetime) -> Decision | None:
    if seen.model is not None:
        return None
    text = f"registered model {seen.spec.model} does not exist; register it in MLflow"
    return wait(seen, Reason.MODEL_NOT_FOUND, text, None)


def refuse_alias_mode_without_aliases(seen: Observation, now: datetime) -> Decision | None:
    """MLflow before 2.3: pods of that age cannot load `models:/NAME@champion`."""
    if seen.model is None or seen.model.aliases_supported:
        return None
    by_alias = [t.name for t in seen.spec.targets if not serving.by_version(t)]
    if not by_alias:
        return None
    text = (
        f"this MLflow has no aliases; give target {by_alias[0]} modelSource type Version, or "
        f"upgrade MLflow to 2.3 or newer"
    )
    return stall(seen, Reason.ALIASES_UNSUPPORTED, text)


def wait_until_settled(seen: Observation, now: datetime) -> Decision | None:
    """A write timed out and may still take effect: look, do not build on it."""
    if not seen.unsettled:
        return None
    text = "a request timed out; looking whether it took effect"
    return wait(seen, Reason.REGISTRY_UNAVAILABLE, text, SOON)


def mirror_ledger(seen: Observation, now: datetime) -> Decision | None:
    """I6: the ledger knows before the world does."""
    missing = ledger.unmirrored(seen)
    return act(seen, *(MirrorEntry(entry) for entry in missing)) if missing else None


def tell_mlflow(seen: Observation, now: datetime) -> Decision | None:
    missing = tags.missing(seen)
    return act(seen, missing) if missing and not seen.action_problem else None


_PHASES: dict[Phase, Step] = {
    Phase.VALIDATING: validating,
    Phase.AWAITING_APPROVAL: awaiting_approval,
    Phase.PROMOTING: promoting,
    Phase.VERIFYING: verifying,
    Phase.BAKING: baking,
    Phase.ROLLING_BACK: rolling_back,
}


def go_on_with_attempt(seen: Observation, now: datetime) -> Decision | None:
    attempt = seen.attempt
    if attempt is None:
        return None
    chain = (end_if_alias_was_taken, _keep_champion, _PHASES[attempt.phase])
    return first_decision(chain, seen, now)


def _keep_champion(seen: Observation, now: datetime) -> Decision | None:
    """An attempt may wait for days; what serves meanwhile is put right as at rest."""
    attempt = seen.attempt
    moving = attempt is not None and (attempt.move_id or attempt.rollback)
    chain = (put_targets_right, note_that_it_came_good)
    return None if moving else first_decision(chain, seen, now)


ALWAYS: Chain = (
    stop_if_deleting,
    yield_to_rival,
    wait_while_registry_is_away,
    wait_for_model,
    refuse_alias_mode_without_aliases,
    yield_to_older,
    restore,
    claim,
    wait_until_settled,
    begin_anew,
    mirror_ledger,
    return_refused_from_staging,
    answer_decisions,
    tell_mlflow,
    go_on_with_attempt,
    resting,
)
