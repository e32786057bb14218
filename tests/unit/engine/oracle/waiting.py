"""Nothing is waited for in silence, for ever, or hotly."""

from dataclasses import replace as replaced
from datetime import timedelta

from msgspec.structs import replace

from podium.api.promotion_status import Verdict
from podium.api.reasons import Reason
from podium.engine.decide import decide
from tests.unit.engine.oracle.case import Case, P, Rule, essence, unmet_gates

NOW = timedelta(0)
# What is waited for comes with a watch or a poll of its own: no look is asked for.
HINTED = frozenset(
    {
        Reason.SUSPENDED,
        Reason.HELD,
        Reason.NO_CANDIDATE,
        Reason.NO_CHAMPION,
        Reason.CANDIDATE_BLOCKED,
        Reason.QUARANTINED,
        Reason.MODEL_NOT_FOUND,
        Reason.VERSION_NOT_FOUND,
        Reason.VERSION_NOT_READY,
    }
)


def comes_back(c: Case) -> None:
    """At once after a step; in time while something is waited for; else by a hint."""
    after, attempt = c.made.requeue_after, c.after.active
    if not c.waits:
        bakes = attempt is not None and attempt.phase is P.BAKING
        assert after == NOW or (bakes and after is not None), "a step without a next look"
        return
    assert after is None or after >= NOW
    problem = c.made.problem
    deleting = c.seen.promotion.metadata.deletion_timestamp is not None
    if problem is None:
        assert attempt is None or deleting or c.restored, "an attempt waits without a reason"
        return
    assert after is not None or problem.reason in HINTED, f"{problem.reason}: no next look"
    if attempt and attempt.deadline and c.now < attempt.deadline and after is not None:
        due = attempt.phase in (P.VERIFYING, P.ROLLING_BACK, P.AWAITING_APPROVAL)
        slow = problem.reason not in (Reason.ROLLING_OUT, Reason.AWAITING_APPROVAL)
        assert not due or slow or after <= attempt.deadline - c.now + timedelta(seconds=2)


def says_why_it_waits(c: Case) -> None:
    attempt = c.after.active
    if c.waits and attempt is not None and c.made.problem is not None:
        assert attempt.reason == c.made.problem.reason, "the attempt does not say why it waits"
        assert attempt.message


def does_not_wait_past_a_deadline(c: Case) -> None:
    """Running out is a reason, never silence."""
    attempt = c.attempt
    if attempt is None or not c.waits or c.made.problem is None:
        return
    reason = c.made.problem.reason
    late = attempt.deadline is not None and c.now >= attempt.deadline
    away = c.seen.registry_back_at  # then containers have the whole time again
    if late and away is None:
        assert reason is not Reason.AWAITING_APPROVAL, "waits for approvals for ever"
        assert reason is not Reason.ROLLING_OUT, "waits for a rollout for ever"
    if reason is Reason.GATE_PENDING and attempt.phase is P.VALIDATING:
        for name in unmet_gates(c.seen, attempt.version):
            gate = next(g for g in c.seen.spec.gates if g.name == name)
            over = c.now >= attempt.phase_started_at + gate.deadline.delta
            assert gate.min_age is not None or not over, f"gate {name} is waited for for ever"
        verdicts = {g.verdict for g in c.seen.gates if not g.dry_run}
        assert Verdict.FAIL not in verdicts or not unmet_gates(c.seen, attempt.version)


def says_the_same_again(c: Case) -> None:
    """The same seen, the same decided; and once written, a wait writes and tells nothing more."""
    assert decide(c.seen, c.now) == c.made, "not a function of what is seen"
    if not c.waits:
        return
    persisted = replaced(c.seen, promotion=replace(c.seen.promotion, status=c.after))
    again = decide(persisted, c.now)
    assert again.status == c.after, "writes again what it has written"
    assert again.events == () and again.actions == (), "tells again what it has told"
    assert again.requeue_after == c.made.requeue_after


def promises_nothing_by_itself(c: Case) -> None:
    """A pass that asks to be called at once has done something."""
    if c.waits and c.made.requeue_after == NOW:
        reads = c.restored and not c.seen.ledger.complete
        assert reads or essence(c.before) != essence(c.after), "a hot loop"


WAITING: tuple[Rule, ...] = (
    comes_back,
    says_why_it_waits,
    does_not_wait_past_a_deadline,
    says_the_same_again,
    promises_nothing_by_itself,
)
