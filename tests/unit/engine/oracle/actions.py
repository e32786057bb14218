"""Actions only by what is persisted already, and each only when it is called for."""

from collections.abc import Sequence
from datetime import timedelta

from podium.api.decision import DecisionOutcome
from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.promotion import ModelSourceType, Stage
from podium.api.promotion_status import Origin
from podium.engine.decision import (
    AnswerDecision,
    ApplyTarget,
    MirrorEntry,
    SetAlias,
    TagVersion,
    TransitionStage,
    WriteClaim,
)
from tests.unit.engine.oracle.case import (
    MOVES,
    Case,
    P,
    Rule,
    carries,
    essence,
    known,
    ready,
    recorded,
    unmet_gates,
)


def acts_only_by_what_is_persisted(c: Case) -> None:
    """Rule 1: with an action goes no step of the status; and every action is called for."""
    if not c.made.actions:
        return
    assert essence(c.after) == essence(c.before), "acts and goes on in one pass"
    for action in c.made.actions:
        match action:
            case SetAlias():
                _may_set_alias(c, action)
            case ApplyTarget():
                _may_apply(c, action)
            case TransitionStage():
                assert _may_transition(c, action), f"not called for: {action}"
            case MirrorEntry(entry):
                assert entry in c.before.history, "mirrors what is not persisted"
            case TagVersion(version):
                assert c.before.attempt and c.before.attempt.version == version
                assert c.seen.version(version) is not None
            case WriteClaim():
                assert c.before.claim is not None, "claims before it remembers since when"
            case AnswerDecision():
                _may_answer(c, action)
    mirrored = [a.entry.seq for a in c.made.actions if isinstance(a, MirrorEntry)]
    if mirrored:
        assert mirrored == sorted(set(mirrored)), "out of order"
        assert mirrored[-1] == c.before.history[-1].seq, "leaves out the newest"
        assert mirrored[0] > c.seen.ledger.head_seq, "writes an entry again"


def _may_set_alias(c: Case, action: SetAlias) -> None:
    attempt = c.attempt
    assert attempt is not None, "moves the alias without an attempt"
    back = attempt.rollback
    goal, move = (back.to, back.move_id) if back else (attempt.version, attempt.move_id)
    assert action.to == goal and move, "moves the alias elsewhere than the attempt says"
    assert action.expect == c.seen.alias != action.to
    assert ready(c.seen, action.to), "I1: not READY"
    expected = {attempt.previous, attempt.version, goal, None}
    assert c.seen.alias in expected, "moves an alias that somebody else has moved"
    intents = [e for e in known(c.seen) if e.action in MOVES]
    if intents:  # the oldest ones may have gone from status and from a torn ledger
        assert (intents[-1].to, intents[-1].move_id) == (goal, move), "I6: no such intent"
    assert c.before.ledger_seq <= c.seen.ledger.head_seq, "I6: the intent is not in MLflow yet"


def _may_apply(c: Case, action: ApplyTarget) -> None:
    attempt, champion = c.attempt, c.before.champion
    assert action.target in {t.name for t in c.seen.spec.targets}
    assert action.move_id, "without a move id"
    assert not carries(c.seen, action.target, action.version, action.move_id), "already so"
    assert c.before.ledger_seq <= c.seen.ledger.head_seq, "I6: the intent is not in MLflow yet"
    wanted = (action.version, action.move_id)
    if attempt and attempt.rollback:
        assert wanted == (attempt.rollback.to, attempt.rollback.move_id)
    elif attempt and attempt.move_id:
        assert wanted == (attempt.version, attempt.move_id)
    else:
        assert champion and wanted == (champion.version, champion.move_id)
        assert not c.seen.spec.suspend and c.seen.version(champion.version) is not None
        assert c.seen.alias == champion.version, "restarts while the alias is elsewhere"
    target = next(t for t in c.seen.spec.targets if t.name == action.target)
    if target.model_source.type is ModelSourceType.ALIAS:
        assert c.seen.alias == action.version, "its pods would load another version"


def _may_transition(c: Case, action: TransitionStage) -> bool:
    seen, last, attempt = c.seen, c.before.attempt, c.attempt
    version, wanted = seen.version(action.version), seen.spec.stage
    if version is None or seen.model is None or not seen.model.stages_supported:
        return False
    if version.stage is action.to:
        return False
    phase = attempt.phase if attempt else None
    goal = c.before.champion_version
    if attempt and phase in (P.VERIFYING, P.BAKING):
        goal = attempt.version
    elif attempt and attempt.rollback:
        goal = attempt.rollback.to
    refused = last is not None and last.phase.terminal and last.version == action.version
    return any(
        (
            action.to is wanted is not Stage.NONE and action.version == goal,
            action.to is Stage.ARCHIVED and version.stage is wanted and action.version != goal,
            action.to is Stage.ARCHIVED
            and phase is P.ROLLING_BACK
            and version.stage is Stage.STAGING
            and attempt is not None
            and action.version == attempt.version,
            action.to is Stage.STAGING
            and phase is P.VALIDATING
            and not seen.staging_taken
            and attempt is not None
            and attempt.version == action.version
            and attempt.staged_from is not None
            and not unmet_gates(seen, action.version),
            refused
            and last is not None
            and last.rollback is not None
            and last.origin is not Origin.DRIFT
            and action.to is Stage.ARCHIVED
            and version.stage is Stage.STAGING,
            refused
            and last is not None
            and action.to.value == last.staged_from
            and version.stage is Stage.STAGING
            and (action.version != seen.alias or last.origin is Origin.ADOPT)
            and action.version != c.before.champion_version,
            action.to is Stage.ARCHIVED
            and version.stage is Stage.STAGING
            and attempt is None
            and action.version != goal
            and any(
                _lost_its_place(e, known(seen))
                and e.from_version == action.version
                and c.now - e.time <= timedelta(minutes=10)
                for e in known(seen)
            ),
        )
    )


def _lost_its_place(entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> bool:
    """Also what failed before somebody, or a late request, gave it the alias once more in vain."""
    if entry.action is not EntryAction.REVERTED:
        return entry.action in (EntryAction.PROMOTED, EntryAction.ROLLED_BACK)
    version = entry.from_version
    return any(
        (e.action is EntryAction.ROLLBACK_INTENT and e.from_version == version)
        or (e.action is EntryAction.QUARANTINED and e.to == version)
        or (e.action is EntryAction.REJECTED and e.inputs is None and e.to == version)
        for e in entries
        if e.seq < entry.seq
    )


def _may_answer(c: Case, action: AnswerDecision) -> None:
    said = c.seen.decisions[0]
    assert (action.name, action.uid) == (said.metadata.name, said.metadata.uid), "not the oldest"
    reference = f"{action.name}/{action.uid}"
    done = any(entry.decision == reference for entry in recorded(c.seen))
    assert (action.outcome is DecisionOutcome.APPLIED) == done, "answers what it did not do"


ACTIONS: tuple[Rule, ...] = (acts_only_by_what_is_persisted,)
