"""What a run has reached: phases, transitions between them, and reasons, with how often.

`missing` is what the engine can give and the run did not: the test asserts that it is empty.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from podium.api.promotion_status import Phase
from podium.api.reasons import Reason
from podium.engine.decision import Decision
from podium.engine.observation import Observation
from tests.unit.engine.oracle.case import P, behind

# Given to the engine as a Problem by whoever met with it; it passes them on to the conditions.
GIVEN = {
    Reason.REGISTRY_THROTTLED: "the registry client: 429",
    Reason.REGISTRY_NOT_FOUND: "no ModelRegistry of that name",
    Reason.SECRET_NOT_FOUND: "a Secret of the ModelRegistry is missing",
    Reason.UNAUTHENTICATED: "the registry client: 401",
    Reason.REGISTRY_FORBIDDEN: "the registry client: 403",
    Reason.HOST_NOT_ALLOWED: "the registry client: MLflow's host check",
    Reason.NOT_MLFLOW: "the registry client: an answer that is not MLflow's",
    Reason.REGISTRY_REFUSED: "the registry client: any other refusal",
    Reason.NOT_SUPPORTED: "the registry client: the server lacks what is asked for",
    Reason.INVALID_SPEC: "the registry client: an address or a name that cannot be",
    Reason.MODEL_NOT_ALLOWED: "modelPatterns of the ModelRegistry",
    Reason.KUBERNETES_UNAVAILABLE: "the API server",
    Reason.FORBIDDEN: "the API server: RBAC",
    Reason.FIELD_CONFLICT: "the API server: server-side apply",
    Reason.TARGET_NOT_FOUND: "the Deployment is not there",
    Reason.CONTAINER_NOT_FOUND: "the Deployment has no such container",
    Reason.STAGE_CLAIMED: "another promotion of this cluster",
    Reason.TARGET_CLAIMED: "another promotion of this cluster",
}
# Never in a decision: only other code of the operator says it.
ELSEWHERE = {Reason.CONNECTED: "the condition of a ModelRegistry"}


@dataclass
class Reached:
    steps: int = 0
    passes: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)

    def add(self, seen: Observation, now: datetime, made: Decision) -> None:
        self.passes += 1
        old, new = seen.status.attempt, made.status.attempt
        if new is not None:
            self.phases[new.phase] += 1
        if new is not None and behind(seen):
            self.restored[new.phase] += new != old
        elif new is not None:
            begun = old is None or old.id != new.id
            if begun or (old and old.phase is not new.phase):
                self.transitions["(begin)" if begun or not old else old.phase, new.phase] += 1
        named = {Reason(condition.reason) for condition in made.status.conditions}
        named |= {event.reason for event in made.events}
        named |= {made.problem.reason} if made.problem else set()
        named |= {Reason(new.reason)} if new and new.reason else set()
        said = " ".join(condition.message for condition in made.status.conditions)
        named |= {r for r in (Reason.UNSAFE_TARGET, Reason.HELD_BY_DECISION) if r in said}
        self.reasons.update(named)

    def missing(self) -> list[str]:
        phases = [phase.value for phase in Phase if not self.phases[phase]]
        reasons = [r.value for r in Reason if not self.reasons[r] and r not in ELSEWHERE]
        steps = [f"{a} -> {b}" for a, b in TRANSITIONS if not self.transitions[a, b]]
        return phases + reasons + steps

    def report(self) -> str:
        own = [r for r in Reason if r not in GIVEN and r not in ELSEWHERE]
        lines = [
            f"{self.steps} steps, {self.passes} decisions judged",
            f"phases reached: {sum(self.phases[p] > 0 for p in Phase)} of {len(Phase)}",
            *_wrapped((p, self.phases[p]) for p in Phase),
            f"transitions: {len(self.transitions)} ({len(TRANSITIONS)} expected)",
            *_wrapped((f"{a} -> {b}", n) for (a, b), n in sorted(self.transitions.items())),
            f"attempts read back from the ledger: {sum(self.restored.values())}",
            *_wrapped(sorted(self.restored.items())),
            f"reasons of the engine: {sum(self.reasons[r] > 0 for r in own)} of {len(own)}",
            *_wrapped((r, self.reasons[r]) for r in own),
            f"reasons passed on: {sum(self.reasons[r] > 0 for r in GIVEN)} of {len(GIVEN)}",
            *_wrapped((r, self.reasons[r]) for r in GIVEN),
            "only said elsewhere: " + ", ".join(f"{r} ({why})" for r, why in ELSEWHERE.items()),
        ]
        return "\n".join(lines)


def _wrapped(counts: object) -> list[str]:
    lines, line = [], "  "
    for name, count in counts:  # type: ignore[attr-defined]
        word = f"{name} {count}"
        if len(line) + len(word) > 98:
            lines.append(line)
            line = "  "
        line += word + ", "
    return [*lines, line.rstrip(", ")]


# What DESIGN's line of phases comes to. SUPERSEDED from each phase in which the alias can be taken.
TRANSITIONS = (
    ("(begin)", P.VALIDATING),
    ("(begin)", P.ROLLING_BACK),
    (P.VALIDATING, P.AWAITING_APPROVAL),
    (P.VALIDATING, P.PROMOTING),
    (P.VALIDATING, P.REJECTED),
    (P.VALIDATING, P.EXPIRED),
    (P.VALIDATING, P.SUPERSEDED),
    (P.AWAITING_APPROVAL, P.PROMOTING),
    (P.AWAITING_APPROVAL, P.VALIDATING),
    (P.AWAITING_APPROVAL, P.REJECTED),
    (P.AWAITING_APPROVAL, P.EXPIRED),
    (P.AWAITING_APPROVAL, P.SUPERSEDED),
    (P.PROMOTING, P.VERIFYING),
    (P.PROMOTING, P.ROLLING_BACK),
    (P.PROMOTING, P.VALIDATING),
    (P.PROMOTING, P.AWAITING_APPROVAL),
    (P.PROMOTING, P.REJECTED),
    (P.PROMOTING, P.SUPERSEDED),
    (P.VERIFYING, P.BAKING),
    (P.VERIFYING, P.PROMOTED),
    (P.VERIFYING, P.ROLLING_BACK),
    (P.VERIFYING, P.REJECTED),
    (P.VERIFYING, P.SUPERSEDED),
    (P.BAKING, P.PROMOTED),
    (P.BAKING, P.ROLLING_BACK),
    (P.BAKING, P.REJECTED),
    (P.BAKING, P.SUPERSEDED),
    (P.ROLLING_BACK, P.ROLLED_BACK),
    (P.ROLLING_BACK, P.REJECTED),
    (P.ROLLING_BACK, P.SUPERSEDED),
)
