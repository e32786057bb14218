"""Gate `minAge`: the version has been the candidate for so long (a soak in an earlier stage).

Counts from `GateFacts.candidate_since`. Time alone changes the verdict, so it is asked again
just before the promotion and stays outside the evidence.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from podium.api.promotion import MinAgeGate
from podium.api.promotion_status import Verdict
from podium.gates.check import Outcome, Reads
from podium.gates.facts import GateFacts


@dataclass(frozen=True)
class MinAgeCheck:
    gate: MinAgeGate
    timed: bool = True

    @property
    def reads(self) -> Reads:
        return Reads()

    def outcome(self, facts: GateFacts, now: datetime) -> Outcome:
        version = facts.candidate.version.version
        bound = str(self.gate.duration)
        since = facts.candidate_since
        if since is None:
            return Outcome(
                Verdict.PENDING,
                f"version {version} must have been the candidate for {bound}; "
                "it is not known yet since when it is",
                bound=bound,
            )
        # No "time left": a message that changes with every look would be a write with every look.
        over = since + self.gate.duration.delta
        verdict = Verdict.PENDING if now < over else Verdict.PASS
        word = "will be" if now < over else "has been"
        return Outcome(
            verdict,
            f"version {version}, the candidate since {_utc(since)}, {word} one for {bound} "
            f"at {_utc(over)}",
            value=_utc(since),
            bound=bound,
        )

    def inputs(self, facts: GateFacts) -> object:
        return None


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
