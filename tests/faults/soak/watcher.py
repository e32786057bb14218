"""The invariants that must hold throughout (DESIGN section 7): I1, I3 and I6, watched from outside.
I4 is looked at by `outages`.

An alias that stands at a version is either moved there by hand, or by Podium; who moved it is
known because everything by hand is noted before it is done.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.faults.mutated import oracle
from tests.faults.soak.town import Quarter, Town
from tests.faults.world import State

# An alias that changed may be seen as late as this after somebody moved it: MLflow restarts.
BY_HAND_SECONDS = 60.0


@dataclass
class Watcher:
    town: Town
    violations: list[str] = field(default_factory=list)
    looks: int = 0
    moves: int = 0
    phases: set[str] = field(default_factory=set)
    reasons: set[str] = field(default_factory=set)
    promoted: int = 0
    _aliases: dict[str, str | None] = field(default_factory=dict)
    _quarantined: dict[str, set[str]] = field(default_factory=dict)
    _entries: dict[tuple[str, int], str] = field(default_factory=dict)

    def look(self, promotions: Mapping[str, dict[str, Any]]) -> None:
        """Aliases, status and Deployments as they are now. Raises while a server is away."""
        aliases = self.town.aliases()
        deployments = self.town.deployments()
        for quarter in self.town.quarters:
            if quarter.name in aliases:
                self._alias(quarter, aliases[quarter.name], promotions.get(quarter.name, {}))
            if quarter.name in deployments:
                self._target(quarter, deployments[quarter.name])
        self.looks += 1

    def _alias(self, quarter: Quarter, at: str | None, promotion: Mapping[str, Any]) -> None:
        status = promotion.get("status", {})
        banned = {each["version"] for each in status.get("quarantined", [])}
        before, self._aliases[quarter.name] = self._aliases.get(quarter.name), at
        # Quarantine before the move and after it: not one that the failed move itself brought.
        known, self._quarantined[quarter.name] = self._quarantined.get(quarter.name, set()), banned
        self.phases.add(str(status.get("attempt", {}).get("phase")))
        self.reasons |= {each["reason"] for each in status.get("conditions", [])}
        if at is None or at == before:
            return
        self.moves += 1
        if time.monotonic() - quarter.moved_at.get(at, -BY_HAND_SECONDS) < BY_HAND_SECONDS:
            return
        if quarter.versions.get(at) == "bad":
            self._violated(quarter, f"I1: the alias moved to {at}, which fails its gate")
        if at in known & banned:
            self._violated(quarter, f"I3: the alias moved to {at}, which is in quarantine")

    def _target(self, quarter: Quarter, deployment: Mapping[str, Any]) -> None:
        template = deployment["spec"]["template"]
        annotations = template["metadata"].get("annotations") or {}
        version = annotations.get("podium.dev/model-version", "")
        if quarter.versions.get(version) == "bad":
            self._violated(quarter, f"I1: the Deployment serves {version}, which fails its gate")

    def ledger(self, quarter: Quarter) -> State:
        """What was written stays as it was, and each move to a version has its intent. A model
        that was given up while it was looked at says nothing: its alias was read before it was
        deleted, its versions with their entries after."""
        state = self.town.state(quarter)
        if quarter not in self.town.quarters:
            return state
        for entry in _mirrored(state):
            key = (quarter.name, entry["seq"])
            if self._entries.setdefault(key, entry["hash"]) != entry["hash"]:
                self._violated(quarter, f"I6: entry {entry['seq']} was rewritten")
        intents = {e.get("to") for e in oracle.ledger(state) if e["action"].endswith("Intent")}
        if state.alias and state.alias not in intents | set(quarter.moved_at):
            self._violated(quarter, f"I6: the alias is at {state.alias} without an intent", state)
        return state

    def whole_ledger(self, quarter: Quarter, state: State) -> list[str]:
        """At the end: the chain, its signatures, and no entry lost that was ever seen."""
        found = oracle.ledger_troubles(quarter.world, state)
        there = {entry["seq"] for entry in _mirrored(state)}
        lost = sorted({seq for name, seq in self._entries if name == quarter.name} - there)
        if lost:
            found.append(f"I6: entries {lost} were lost")
        return found

    def count_promotions(self) -> None:
        self.promoted = sum(
            entry["action"] == "Promoted"
            for quarter in self.town.quarters
            for entry in _mirrored(self.town.state(quarter))
        )

    def _violated(self, quarter: Quarter, what: str, state: State | None = None) -> None:
        text = f"{quarter.name}: {what}"
        if any(each.startswith(text) for each in self.violations):
            return
        if state:
            there = [f"{e['seq']} {e['action']} {e.get('to')}" for e in oracle.ledger(state)]
            text += f" at {datetime.now(UTC):%X}; {', '.join(there)}; status {state.status}"
        self.violations.append(text)


def _mirrored(state: State) -> list[dict[str, Any]]:
    """The entries that are in MLflow: what status alone has may be lost with it."""
    bare = replace(state, promotion={**state.promotion, "status": {}})
    return oracle.ledger(bare)
