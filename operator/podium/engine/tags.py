"""Plain tags for people who live in MLflow's UI: `podium.dev/<alias>/phase`, `validation` and
the time of each stage transition (docs/tags.md). Podium never reads them."""

from datetime import UTC, datetime

from podium.api.promotion import Stage
from podium.api.promotion_status import Phase, Verdict
from podium.engine.decision import TagVersion
from podium.engine.ledger import PREFIX
from podium.engine.observation import Observation

_STAGE_TAG = {
    Stage.STAGING: "staging-at",
    Stage.PRODUCTION: "production-at",
    Stage.ARCHIVED: "archived-at",
}
_LONGEST_ALIAS = 200  # tag keys end at 250 characters


def key(alias: str, name: str) -> str:
    return f"{PREFIX}{alias[:_LONGEST_ALIAS]}/{name}"


def stage_tag(alias: str, stage: Stage, now: datetime) -> tuple[str, str] | None:
    """The tag that goes with a transition; None for stage None."""
    name = _STAGE_TAG.get(stage)
    text = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (key(alias, name), text) if name else None


def missing(seen: Observation) -> TagVersion | None:
    """What the version of the current (or last) attempt does not say yet."""
    attempt = seen.status.attempt
    version = seen.version(attempt.version) if attempt else None
    if attempt is None or version is None:
        return None
    wanted = {key(seen.spec.alias, "phase"): attempt.phase.value}
    failing = [g for g in attempt.gates if g.verdict is Verdict.FAIL and not g.dry_run]
    if failing and attempt.phase is Phase.REJECTED:
        wanted[key(seen.spec.alias, "validation")] = f"failed: {failing[0].name}"
    elif attempt.evidence_digest is not None:
        wanted[key(seen.spec.alias, "validation")] = "passed"
    stale = tuple((k, v) for k, v in sorted(wanted.items()) if version.tags.get(k) != v)
    return TagVersion(attempt.version, stale) if stale else None
