"""Validating: does the candidate deserve to be promoted? Gates say so; nothing moves yet.

The answer to "what happens when a candidate fails a gate?" is `reject_if_a_gate_fails`.
"""

from datetime import datetime, timedelta

from msgspec.structs import replace

from podium.api.promotion import Supersede
from podium.api.promotion_status import AttemptStatus, GateStatus, Origin, Phase, Verdict
from podium.api.reasons import Reason
from podium.engine import stages
from podium.engine.attempts import end, entered
from podium.engine.candidate import is_pinned_rollback, select
from podium.engine.decision import Decision
from podium.engine.digests import candidate_digest, digest
from podium.engine.observation import Observation
from podium.engine.steps import OBSERVE, SLOWLY, Chain, act, first_decision, normal, persist, wait

TIMED = ("min_age",)  # kinds whose verdict depends on the time alone: outside the evidence


def validating(seen: Observation, now: datetime) -> Decision | None:
    return first_decision(VALIDATING, seen, now)


def running(seen: Observation) -> AttemptStatus:
    attempt = seen.attempt
    assert attempt is not None, "a phase is only entered with an attempt"
    return attempt


def end_if_version_is_gone(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    version = seen.version(attempt.version)
    if version is None:
        message = f"version {attempt.version} does not exist any more"
        return end(seen, now, Phase.SUPERSEDED, Reason.VERSION_NOT_FOUND, message)
    if not version.ready:
        message = f"version {attempt.version} is not READY any more"
        return end(seen, now, Phase.SUPERSEDED, Reason.VERSION_NOT_READY, message)
    return None


def end_if_selector_changed(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if attempt.origin is Origin.CANDIDATE and attempt.candidate_digest != candidate_digest(
        seen.spec
    ):
        return end(
            seen, now, Phase.SUPERSEDED, Reason.CANDIDATE_CHANGED, "spec.candidate was changed"
        )
    return None


def end_if_superseded(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if attempt.origin is not Origin.CANDIDATE or not _may_be_superseded(seen, attempt.phase):
        return None
    newer = select(seen)
    if newer is not None and newer.version == attempt.version:
        return None
    if newer is None:
        message = "the selector does not point at it any more"
        return end(seen, now, Phase.SUPERSEDED, Reason.CANDIDATE_CHANGED, message)
    message = f"version {newer.version} is the candidate now"
    return end(seen, now, Phase.SUPERSEDED, Reason.NEWER_CANDIDATE, message)


def _may_be_superseded(seen: Observation, phase: Phase) -> bool:
    match seen.spec.supersede:
        case Supersede.ALWAYS:
            return True
        case Supersede.BEFORE_APPROVAL:
            return phase is Phase.VALIDATING
        case Supersede.NEVER:
            return False


def wait_while_suspended_or_held(seen: Observation, now: datetime) -> Decision | None:
    if seen.spec.suspend:
        return wait(seen, Reason.SUSPENDED, "spec.suspend is true: no step forward", None)
    if seen.status.hold:
        message = f"held ({seen.status.hold.reason}): a PromotionDecision Release lets it go on"
        return wait(seen, Reason.HELD, message, None)
    return None


def binding(seen: Observation) -> tuple[GateStatus, ...]:
    """The gates that may block: not those of a dry run, and in a rollback by pin not those that
    compare with the champion, which is to be left."""
    excused: set[str] = set()
    if is_pinned_rollback(seen, running(seen).version):
        excused = {g.name for g in seen.spec.gates if g.metric and g.metric.compare}
    return tuple(gate for gate in seen.gates if not gate.dry_run and gate.name not in excused)


def remember_verdicts(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    if attempt.gates == seen.gates:
        return None
    return persist(replace(seen.status, attempt=replace(attempt, gates=seen.gates)))


def reject_if_a_gate_fails(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    for gate in binding(seen):
        if gate.verdict is Verdict.FAIL:
            message = f"gate {gate.name}: {gate.message}"
            return end(seen, now, Phase.REJECTED, Reason.GATE_FAILED, message)
        if gate.verdict is Verdict.PASS or gate.verdict is Verdict.NOT_APPLICABLE:
            continue
        limit = _gate_deadline(seen, gate.name, attempt)
        if limit is None or now < limit:
            continue
        message = f"gate {gate.name} was still {gate.verdict} at its deadline: {gate.message}"
        undecided = gate.verdict is Verdict.ERROR
        phase = Phase.EXPIRED if undecided else Phase.REJECTED
        return end(seen, now, phase, Reason.GATE_FAILED, message)
    return None


def _gate_deadline(seen: Observation, name: str, attempt: AttemptStatus) -> datetime | None:
    """When a gate that gives no verdict fails. A soak (minAge) ends by itself."""
    gate = next((gate for gate in seen.spec.gates if gate.name == name), None)
    if gate is None or gate.min_age is not None:
        return None
    return attempt.phase_started_at + gate.deadline.delta


def wait_for_gates(seen: Observation, now: datetime) -> Decision | None:
    missing = [
        gate for gate in binding(seen) if gate.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE)
    ]
    if missing or len(seen.gates) != len(seen.spec.gates):
        text = "; ".join(f"gate {g.name}: {g.message}" for g in missing) or "gates are evaluated"
        return wait(seen, Reason.GATE_PENDING, text, _next_look(seen, now))
    return None


def _next_look(seen: Observation, now: datetime) -> timedelta:
    """Tags and metrics come with no event of their own: look again with the poll, and just when
    a deadline or a soak ends."""
    return min(max(seen.poll_interval, OBSERVE / 15), SLOWLY)


def move_to_staging(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    transition = stages.to_staging(seen, attempt.version)
    version = seen.version(attempt.version)
    if transition is None or version is None:
        return None
    if attempt.staged_from is None:
        staged = replace(attempt, staged_from=version.stage.value)
        return persist(replace(seen.status, attempt=staged))
    return act(seen, transition)


def freeze_evidence(seen: Observation, now: datetime) -> Decision | None:
    attempt = running(seen)
    frozen = replace(attempt, evidence_digest=evidence(seen))
    if approvals_missing(seen, frozen):
        return ask_for_approval(seen, now, frozen)
    following = entered(frozen, Phase.PROMOTING, now)
    return persist(replace(seen.status, attempt=following))


def approvals_missing(seen: Observation, attempt: AttemptStatus) -> int:
    """How many more people must agree. One person counts once; a rollback by pin asks nobody."""
    if seen.spec.approval is None or is_pinned_rollback(seen, attempt.version):
        return 0
    agreed = {one.by for one in attempt.approvals}
    if seen.spec.approval.exclude_authors:
        version = seen.version(attempt.version)
        if version is not None and version.authors is None:
            return seen.spec.approval.required
        agreed -= authors(seen, attempt)
        agreed.discard(seen.promotion.metadata.annotations.get("podium.dev/spec-author", ""))
    return max(0, seen.spec.approval.required - len(agreed))


def authors(seen: Observation, attempt: AttemptStatus) -> frozenset[str]:
    """Who made the version, and may not approve it if the spec says so; as far as it is known."""
    version = seen.version(attempt.version)
    return (version.authors if version else None) or frozenset()


def ask_for_approval(seen: Observation, now: datetime, attempt: AttemptStatus) -> Decision:
    assert seen.spec.approval is not None
    limit = seen.spec.approval.expire_after.delta
    said = normal(
        Reason.AWAITING_APPROVAL,
        f"version {attempt.version} passed its gates and waits for "
        f"{approvals_missing(seen, attempt)} approval(s) of evidence {attempt.evidence_digest}",
    )
    following = entered(attempt, Phase.AWAITING_APPROVAL, now, limit)
    return persist(replace(seen.status, attempt=following), said)


def evidence(seen: Observation) -> str:
    """The digest of what was proved: the version, what was asked, what was found. Gates that
    depend on the time are outside; they are checked again at Promoting."""
    version = running(seen).version
    timed = {g.name for g in seen.spec.gates if any(getattr(g, kind) for kind in TIMED)}
    source = seen.version(version)
    return digest(
        {
            "model": seen.spec.model,
            "alias": seen.spec.alias,
            "version": version,
            "source": source.source if source else "",
            "asked": [gate for gate in seen.spec.gates if gate.name not in timed],
            "found": [[g.name, g.verdict] for g in binding(seen) if g.name not in timed],
            "inputs": seen.gate_inputs,
        }
    )


VALIDATING: Chain = (
    end_if_version_is_gone,
    end_if_selector_changed,
    end_if_superseded,
    wait_while_suspended_or_held,
    remember_verdicts,
    reject_if_a_gate_fails,
    wait_for_gates,
    move_to_staging,
    freeze_evidence,
)
