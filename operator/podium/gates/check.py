"""The Protocol of a gate, and what one answers.

A kind of gate is a module with a class that implements `Check`; `evaluate.check_of` knows
them all. A check is pure: the same facts at the same time give the same outcome.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from podium.api.promotion_status import Verdict
from podium.gates.facts import GateFacts


@dataclass(frozen=True)
class Outcome:
    """A verdict with what was measured (`value`), what was asked (`bound`), and both in words."""

    verdict: Verdict
    message: str
    value: str | None = None
    bound: str | None = None


@dataclass(frozen=True)
class Reads:
    """What a check needs to have read, so that nothing else is."""

    run: bool = False
    logged_model: bool = False
    champion: bool = False

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(
            run=self.run or other.run,
            logged_model=self.logged_model or other.logged_model,
            champion=self.champion or other.champion,
        )


class Check(Protocol):
    """One gate of a promotion, ready to be asked."""

    @property
    def timed(self) -> bool:
        """Whether time alone changes the verdict: then it stays outside the evidence."""

    @property
    def reads(self) -> Reads:
        """Which facts it looks at."""

    def outcome(self, facts: GateFacts, now: datetime) -> Outcome:
        """The verdict. Pass and Fail only of what is known."""

    def inputs(self, facts: GateFacts) -> object:
        """What the verdict depended on, as JSON takes it; without the time."""
