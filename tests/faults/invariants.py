"""What must always hold (DESIGN section 7): I3, I4 and I7 as a write arrives, I1, I2 and I6 after
each that took effect, I6 whole at the end. I5, I8, and the repair of late commits (I7), for which
one must wait, are the harness' own.
"""

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from podium.engine import ledger as ledgers
from tests.faults.calls import Asked
from tests.faults.stories import Story
from tests.faults.world import State, World

ALIAS = "registered-models/alias"
STAGE = "model-versions/transition-stage"
MOVES = (ALIAS, STAGE, "deployments")
INTENTS = ("PromoteIntent", "RollbackIntent", "RevertIntent")


@dataclass
class Watch:
    """Looks at both servers after each write that took effect."""

    world: World
    story: Story
    violations: list[str] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    deleted: Collection[str] = ()  # versions that people have deleted, with the entries on them
    _begun: bool = False
    _entries: dict[tuple[str, int], str] = field(default_factory=dict)
    _late: set[str] = field(default_factory=set)

    def begin(self) -> None:
        self._begun = True

    def sends(self, asked: Asked, seat: str, leader: str | None, away: float | None) -> None:
        """A write of the operator of this seat arrives; that of seat `leader` holds the Lease, and
        MLflow is away for so many seconds (None: it is not)."""
        found = []
        if seat != leader:
            found.append(f"I7: {seat} writes while {leader or 'nobody'} holds the Lease")
        if away and asked.what == "deployments":
            found.append(f"I4: a target changes while MLflow is away, for {away:.1f} s")
        self.violations += [f"at {asked.name}: {each}" for each in found]

    def acts_for(self, asked: Asked, promotions: int) -> None:
        """What changes what serves arrives, while so many promotions exist."""
        if not promotions:
            self.violations.append(f"at {asked.name}: rule 8: moved for a deleted promotion")

    def moves_to(self, version: str, state: State) -> None:
        """A move of the alias arrives. What the network has held back since was sent before the
        version came into quarantine; that is undone by I7."""
        if version in state.quarantined:
            self.violations.append(f"I3: the alias is moved to {version}, which is in quarantine")

    def wrote(self, asked: Asked) -> None:
        if not self._begun or asked.what == "events":
            return
        state = self.world.state()
        found = [*self._ledger_only_grows(state), *self._enough_pods(state)]
        if asked.what == ALIAS:
            found += self._may_move(asked.value, state)
        self.violations += [f"after {asked.name}: {each}" for each in found]

    def end(self, state: State) -> list[str]:
        """I6 whole: the chain in MLflow is unbroken, signed, and ends where status ends."""
        spec = state.promotion["spec"]
        model, alias = spec["model"], spec.get("alias", "champion")
        versions = {number: _tags(version) for number, version in state.versions.items()}
        ledger = ledgers.parse_ledger(model, alias, _tags(state.model), versions)
        chain = ledgers.check(ledger)
        found = []
        if chain.trouble:
            found.append(f"I6: {chain.trouble}")
        head = (state.status.get("ledgerSeq", 0), state.status.get("ledgerHead"))
        if head != (chain.seq, chain.head):
            found.append(f"I6: status ends with {head}, MLflow with {(chain.seq, chain.head)}")
        seqs = [entry.seq for entry in chain.entries]
        if seqs != list(range(1, len(seqs) + 1)):
            found.append(f"I6: entries {seqs}")
        if ledger.head_signer is None:
            return [*found, "I6: there is no head"] if chain.entries else found
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(ledger.head_signer))
        for entry in chain.entries:
            try:
                key.verify(base64.b64decode(entry.signature or ""), entry.hash.encode())
            except InvalidSignature:
                found.append(f"I6: the signature of entry {entry.seq} does not verify")
        return found

    def _may_move(self, version: str, state: State) -> list[str]:
        found = []
        if version not in self.story.good:
            found.append(f"I1: the alias moved to {version}")
        deleted = version in self.deleted
        if not deleted and state.versions.get(version, {}).get("status") != "READY":
            found.append(f"I1: the alias moved to {version}, which is not READY")
        entries = [json.loads(t) for t in _entry_texts(state)] + state.status.get("history", [])
        intended = any(e["action"] in INTENTS and e.get("to") == version for e in entries)
        if not deleted and not intended:
            found.append(f"I6: the alias moved to {version} without an intent")
        return found

    def came_late(self) -> None:
        """An entry that was on its way when its status was lost: who reads the ledger back before
        it lands cannot know it and gives its number to another one. MLflow compares nothing."""
        entries = [json.loads(t) for t in _entry_texts(self.world.state())]
        unseen = [e for e in entries if (e["alias"], e["seq"]) not in self._entries]
        self._late |= {entry["hash"] for entry in unseen}

    def _ledger_only_grows(self, state: State) -> list[str]:
        found = []
        for entry in [json.loads(t) for t in _entry_texts(state)]:
            key = (entry["alias"], entry["seq"])
            known = self._entries.get(key)
            if known not in (None, entry["hash"], *self._late):
                found.append(f"I6: entry {entry['seq']} of {entry['alias']} was rewritten")
                continue
            self._entries[key] = entry["hash"]
        return found

    def _enough_pods(self, state: State) -> list[str]:
        if self.story.sags:
            return []
        few = {name: state.ready(name) for name in state.deployments if state.ready(name) < 2}
        return [f"I2: ready pods {few}, wanted 2"] if few else []


def _entry_texts(state: State) -> list[str]:
    found = [state.model, *state.versions.values()]
    return [
        value
        for each in found
        for key, value in _tags(each).items()
        if key.startswith("podium.dev/ledger/")
    ]


def _tags(raw: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in raw.get("tags", [])}
