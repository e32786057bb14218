"""What has to be read before a decision, judged by what the cache already shows.

At rest nothing is read: ten thousand promotions that are well cost no request (I8).
"""

from datetime import datetime

from podium.api.promotion import Stage
from podium.api.promotion_status import Phase
from podium.engine import serving, stages, tags
from podium.engine.candidate import BECAME_CHAMPION, block, select
from podium.engine.decision import Needs
from podium.engine.drifting import was_elsewhere
from podium.engine.late import came_good
from podium.engine.observation import Observation
from podium.engine.restoring import behind

_WATCHED = frozenset({Phase.PROMOTING, Phase.VERIFYING, Phase.BAKING, Phase.ROLLING_BACK})
_JUDGED = frozenset({Phase.VALIDATING, Phase.AWAITING_APPROVAL, Phase.PROMOTING})


def needs(seen: Observation, now: datetime) -> Needs:
    attempt = seen.attempt
    if attempt is not None:
        judged = attempt.phase in _JUDGED and attempt.move_id is None
        return Needs(
            fresh=True,
            versions=True,
            pods=attempt.phase in _WATCHED,
            gates_for=attempt.version if judged else None,
        )
    if not well(seen, now):
        return Needs(fresh=True, versions=True)
    return Needs()


def well(seen: Observation, now: datetime) -> bool:
    """Whether the cached view shows nothing to do."""
    status = seen.status
    if seen.registry_problem or seen.model is None or seen.decisions or not status.champion:
        return False
    if not status.claim or not status.claim.confirmed or seen.action_problem or seen.unsettled:
        return False
    if _asks_for_more(seen):
        return False
    if was_elsewhere(seen) and not seen.spec.suspend:
        return False
    if seen.ledger.head_seq != status.ledger_seq or behind(seen):
        return False
    if seen.alias != status.champion.version:
        return False
    if any(
        state.problem or not serving.serves_as_is(seen, target, state)
        for target, state in serving.pairs(seen)
    ):
        return False
    if stages.next_transition(seen, status.champion.version, at_rest=True) or tags.missing(seen):
        return False
    if stages.undo_late_staging(seen, now):
        return False
    if came_good(seen):
        return False
    found = select(seen)
    return found is None or found.version == status.champion.version or bool(block(seen, found))


def _asks_for_more(seen: Observation) -> bool:
    """Whether a version may matter that is not among those known so far: at first sight only the
    newest of each stage are."""
    selector = seen.spec.candidate
    if seen.model is None or seen.model.complete:
        return False
    if seen.model.stages_supported and _predecessor_is_hidden(seen):
        return True
    if selector is None:
        return False
    if selector.version is not None:
        return seen.version(selector.version) is None
    return selector.latest is not None and bool(selector.latest.match_tags)


def _predecessor_is_hidden(seen: Observation) -> bool:
    """It is Archived. Not among the newest of each stage, it may be in Production again, where
    the champion is newer: somebody put it there while no operator ran."""
    if seen.spec.stage is not Stage.PRODUCTION:
        return False
    became = (e for e in reversed(seen.status.history) if e.action in BECAME_CHAMPION)
    entry = next(became, None)
    return bool(entry and entry.from_version and seen.version(entry.from_version) is None)
