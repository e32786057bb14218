"""Baking: the new champion is watched for a while; only observed time counts.

Ends badly on failed or restarted containers, lost readiness and pods that do not get ready, not by
a timer alone. It has no deadline of its own: every observation of at most 30 s brings the end
nearer.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.promotion_status import Phase
from podium.api.reasons import Reason
from podium.engine import blame, serving
from podium.engine.attempts import entered
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from podium.engine.promoting import go_back_if_version_is_gone
from podium.engine.steps import OBSERVE, Chain, first_decision, normal, persist, wait
from podium.engine.validating import running
from podium.engine.verifying import carry_move_again, go_back, move_alias_last, settle_stages

LONGEST_INTERVAL = timedelta(seconds=30)
COARSE = timedelta(seconds=10)  # how often observed time is persisted at most


def baking(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(BAKING, seen, now)


def go_back_if_it_fails(seen: Observation, now: datetime) -> Decision | None:
    found = blame.of_bake(seen, running(seen), now)
    return go_back(seen, now, found) if found else None


def count_observed_time(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    wanted = seen.spec.rollback.bake_duration.delta
    since = now - (attempt.baked_at or now)
    healthy = all(target.settled for target in seen.targets)
    baked = timedelta(seconds=attempt.baked_seconds)
    observed = timedelta(0) <= since <= LONGEST_INTERVAL
    counted = since if healthy and observed else timedelta(0)
    if healthy and baked + counted >= wanted:
        return None
    left = max(min(OBSERVE, wanted - baked - counted), timedelta(seconds=1))
    left = left if healthy else OBSERVE
    if timedelta(0) <= since < COARSE:
        text = f"baking for {seen.spec.rollback.bake_duration}"
        text += "" if healthy else f"; not counted: {serving.describe(seen)}"
        return wait(seen, Reason.BAKING, text, left)
    total = int((baked + counted).total_seconds())
    noted = replace(attempt, baked_seconds=total, baked_at=now)
    return Decision(replace(seen.status, attempt=noted), requeue_after=left)


def finish(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    done = entered(attempt, Phase.PROMOTED, now)
    text = f"version {attempt.version} baked for {seen.spec.rollback.bake_duration}"
    return persist(replace(seen.status, attempt=done), normal(Reason.PROMOTED, text))


BAKING: Chain = (
    go_back_if_version_is_gone,
    go_back_if_it_fails,
    carry_move_again,
    move_alias_last,
    settle_stages,
    count_observed_time,
    finish,
)
