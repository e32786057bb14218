"""Gate `tag`: a tag of the model version has one of some values, or is merely there.

Tags are set by people and pipelines, often after the version was registered, so a missing
tag or another value is Pending: the gate's deadline ends the wait, not this module.
"""

from dataclasses import dataclass
from datetime import datetime

from podium.api.promotion import TagGate
from podium.api.promotion_status import Verdict
from podium.gates.check import Outcome, Reads
from podium.gates.facts import GateFacts

MAX_SHOWN = 100  # a tag's value may have 100,000 characters


@dataclass(frozen=True)
class TagCheck:
    gate: TagGate
    timed: bool = False

    @property
    def reads(self) -> Reads:
        return Reads()

    def outcome(self, facts: GateFacts, now: datetime) -> Outcome:
        version = facts.candidate.version
        found = version.tags.get(self.gate.key)
        bound = _asked(self.gate)
        subject = f"version {version.version}"
        if found is None:
            return Outcome(
                Verdict.PENDING,
                f'{subject} has no tag "{self.gate.key}" yet (wanted: {bound})',
                bound=bound,
            )
        shown = _cut(found)
        if self.gate.values and found not in self.gate.values:
            return Outcome(
                Verdict.PENDING,
                f'tag "{self.gate.key}" of {subject} is "{shown}" (wanted: {bound})',
                value=shown,
                bound=bound,
            )
        return Outcome(
            Verdict.PASS,
            f'tag "{self.gate.key}" of {subject} is "{shown}"',
            value=shown,
            bound=bound,
        )

    def inputs(self, facts: GateFacts) -> object:
        return facts.candidate.version.tags.get(self.gate.key)


def _asked(gate: TagGate) -> str:
    if not gate.values:
        return "present"
    return "one of " + ", ".join(f'"{_cut(v)}"' for v in gate.values)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
