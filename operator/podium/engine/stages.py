"""MLflow's stages: which transitions are still missing for a promotion's champion.

One transition at a time, never with MLflow's own archiving: two of those at once leave two
versions in Production (measured).
"""

from datetime import datetime, timedelta

from podium.api.ledger_entry import EntryAction
from podium.api.promotion import Stage
from podium.engine import ledger
from podium.engine.candidate import BECAME_CHAMPION, failure
from podium.engine.decision import TransitionStage
from podium.engine.observation import Observation, VersionState

# What was sent before an outcome may still come so long after it.
LATE = timedelta(minutes=10)
# Entries whose `from` is a version that lost its place.
_LEFT = (EntryAction.PROMOTED, EntryAction.ROLLBACK_INTENT, EntryAction.ROLLED_BACK)


def next_transition(
    seen: Observation, champion: str, *, demoted: str | None = None, at_rest: bool = False
) -> TransitionStage | None:
    """The next stage change on the way to: `champion` holds spec.stage, the version it took the
    place of (`demoted`) is Archived if it still held that stage, and no other one is left in
    Production. None when it is so, or the registry has no stages. `at_rest`: nothing has moved,
    so that an Archived champion of Staging was archived by somebody else."""
    wanted = seen.spec.stage
    if wanted is Stage.NONE or seen.model is None or not seen.model.stages_supported:
        return None
    version = seen.version(champion)
    if version and version.stage is not wanted and not _outranked(version, wanted, at_rest):
        return TransitionStage(champion, wanted)
    for other in sorted(seen.model.versions.values(), key=lambda v: v.number):
        if other.version == champion or other.stage is not wanted:
            continue
        if wanted is Stage.PRODUCTION or other.version == demoted:
            return TransitionStage(other.version, Stage.ARCHIVED)
    return None


def _outranked(version: VersionState, wanted: Stage, at_rest: bool) -> bool:
    """A staging promotion leaves a version alone that another one has brought to Production."""
    beyond = (Stage.PRODUCTION, Stage.ARCHIVED) if at_rest else (Stage.PRODUCTION,)
    return wanted is Stage.STAGING and version.stage in beyond


def to_staging(seen: Observation, candidate: str) -> TransitionStage | None:
    """The candidate of a Production promotion goes to Staging when its gates have passed, unless
    another promotion holds Staging for the model."""
    version = seen.version(candidate)
    if seen.spec.stage is not Stage.PRODUCTION or version is None or seen.model is None:
        return None
    if not seen.model.stages_supported or seen.staging_taken:
        return None
    if version.stage in (Stage.STAGING, Stage.PRODUCTION):
        return None
    return TransitionStage(candidate, Stage.STAGING)


def back_from_staging(
    seen: Observation, candidate: str, staged_from: str | None
) -> TransitionStage | None:
    """A refused candidate goes back to None, if it was Podium that brought it to Staging."""
    version = seen.version(candidate)
    if staged_from is None or version is None or version.stage is not Stage.STAGING:
        return None
    if seen.model is None or not seen.model.stages_supported:
        return None
    return TransitionStage(candidate, Stage(staged_from))


def archive_failed(seen: Observation, failed: str) -> TransitionStage | None:
    """A version that was rolled back before it reached Production does not stay in Staging."""
    version = seen.version(failed)
    if seen.spec.stage is not Stage.PRODUCTION or seen.staging_taken or version is None:
        return None
    if seen.model is None or not seen.model.stages_supported:
        return None
    if version.stage is not Stage.STAGING:
        return None
    return TransitionStage(failed, Stage.ARCHIVED)


def undo_late_staging(seen: Observation, now: datetime) -> TransitionStage | None:
    """A version that has just lost its place is Archived. One in Staging was brought there by a
    request of Podium's that the network delayed, or another delayed request ended its rollback.
    Later it is somebody's wish."""
    if seen.spec.stage is not Stage.PRODUCTION or seen.staging_taken or seen.model is None:
        return None
    if not seen.model.stages_supported:
        return None
    settled = 0  # the entry by which the champion before became it
    for entry in ledger.known(seen):
        before, settled = settled, entry.seq if entry.action in BECAME_CHAMPION else settled
        version = seen.version(entry.from_version)
        if version is None or now - entry.time > LATE:
            continue
        failed = failure(seen, version.version) if entry.action is EntryAction.REVERTED else None
        if entry.action not in _LEFT and not (failed and failed.seq > before):
            continue
        if version.stage is Stage.STAGING and version.version != seen.status.champion_version:
            return TransitionStage(version.version, Stage.ARCHIVED)
    return None
