"""Asks the gates of a promotion about one version.

`evaluate_all` gives the verdicts and a digest of what they depended on, by which a refused
version is known to be worth another try. When Pending has lasted too long is for the engine.
"""

from collections.abc import Sequence
from datetime import datetime

from podium.api.promotion import Gate
from podium.api.promotion_status import GateStatus, Verdict
from podium.api.values import write
from podium.engine.digests import digest
from podium.engine.steps import clip
from podium.gates.check import Check, Reads
from podium.gates.facts import GateFacts
from podium.gates.metric import MetricCheck
from podium.gates.min_age import MinAgeCheck
from podium.gates.tag import TagCheck

MAX_MESSAGE = 224  # bytes in status, for each of up to 20 gates
MAX_VALUE = 64


def check_of(gate: Gate) -> Check | None:
    """The check that a gate asks for; None unless it asks for exactly one."""
    checks: list[Check] = []
    if gate.metric is not None:
        checks.append(MetricCheck(gate.metric))
    if gate.tag is not None:
        checks.append(TagCheck(gate.tag))
    if gate.min_age is not None:
        checks.append(MinAgeCheck(gate.min_age))
    return checks[0] if len(checks) == 1 else None


def reads_of(gates: Sequence[Gate]) -> Reads:
    """Everything that these gates look at."""
    reads = Reads()
    for gate in gates:
        check = check_of(gate)
        reads = reads | check.reads if check else reads
    return reads


def evaluate(gate: Gate, facts: GateFacts, now: datetime) -> GateStatus:
    """One gate's verdict. A gate of no known kind is an Error, never Pass."""
    check = check_of(gate)
    if check is None:
        return GateStatus(
            name=gate.name,
            verdict=Verdict.ERROR,
            message="the gate must have exactly one kind that this release knows: metric, tag or "
            "minAge; mend spec.gates",
            dry_run=gate.dry_run,
        )
    outcome = check.outcome(facts, now)
    return GateStatus(
        name=gate.name,
        verdict=outcome.verdict,
        message=clip(outcome.message, MAX_MESSAGE),
        value=outcome.value and clip(outcome.value, MAX_VALUE),
        bound=outcome.bound and clip(outcome.bound, MAX_VALUE),
        dry_run=gate.dry_run,
    )


def evaluate_all(
    gates: Sequence[Gate], facts: GateFacts, now: datetime
) -> tuple[tuple[GateStatus, ...], str | None]:
    """All verdicts, and the digest of their inputs without the timed ones.

    The digest is None while a gate that counts is an Error: what it depends on is not known, and
    an outage must not look like new inputs.
    """
    verdicts = tuple(evaluate(gate, facts, now) for gate in gates)
    inputs: list[object] = []
    for gate, verdict in zip(gates, verdicts, strict=True):
        check = check_of(gate)
        # The gate as written is an input too: a bound that was mended deserves another try.
        inputs.append(write(gate))
        if gate.dry_run or (check is not None and check.timed):
            continue
        if check is None or verdict.verdict is Verdict.ERROR:
            return verdicts, None
        inputs.append(check.inputs(facts))
    return verdicts, digest([facts.candidate.version.version, inputs])
