"""What must always hold (DESIGN section 7): I3, I4 and I7 as a write arrives, I1, I2 and I6 after
each that took effect, I6 whole at the end. I5, I8, and the repair of late commits (I7), for which
one must wait, are the harness' own.
"""

import base64
import itertools
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
    approvals: bool = True  # are judged: nobody changes what the spec asks for, or Releases
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

    def wrote(self, asked: Asked, late: bool) -> None:
        """A write took effect; `late`: long after it was sent."""
        if not self._begun or asked.what == "events":
            return
        state = self.world.state()
        found = [*self._ledger_only_grows(state), *_breaks(state), *self._enough_pods(state)]
        if asked.what == ALIAS:
            found += self._may_move(asked.of, asked.value, state, late)
        self.violations += [f"after {asked.name}: {each}" for each in found]

    def end(self, state: State) -> list[str]:
        """I6 whole: the chain in MLflow is unbroken, signed, and ends where status ends."""
        promotions = (state.promotion, *state.others)
        return [trouble for each in promotions for trouble in self._ledger_troubles(each, state)]

    def _ledger_troubles(self, promotion: dict[str, Any], state: State) -> list[str]:
        ledger = _ledger(promotion, state)
        chain = ledgers.check(ledger)
        found = _unlinked(chain)
        if chain.trouble:
            found.append(f"I6: {chain.trouble}")
        status = promotion.get("status") or {}
        head = (status.get("ledgerSeq", 0), status.get("ledgerHead"))
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

    def _may_move(self, alias: str, version: str, state: State, late: bool) -> list[str]:
        found = []
        if version not in self.story.good:
            found.append(f"I1: the alias moved to {version}")
        if version in self.deleted:
            return found
        if state.versions.get(version, {}).get("status") != "READY":
            found.append(f"I1: the alias moved to {version}, which is not READY")
        entries = [e for e in _entries(state) if e["alias"] == alias]
        intents = [e for e in entries if e["action"] in (*INTENTS, "Abandoned")]
        if not late and not self.deleted:  # else the newest may not be the one, or be gone
            newest = max((e["seq"] for e in intents), default=0)
            intents = [e for e in intents if e["seq"] == newest]
        meant = [e for e in intents if e["action"] in INTENTS and e.get("to") == version]
        if not meant:
            said = [f"{e['seq']} {e['action']} {e.get('to')}" for e in intents]
            found.append(f"I6: the alias {alias} moved to {version}, the intent is {said}")
        if self.approvals and not any(_approved(e, entries, state) for e in meant):
            found.append(f"I1: the alias {alias} moved to {version} without its approvals")
        return found

    def came_late(self) -> None:
        """An entry that was on its way when its status was lost: who reads the ledger back before
        it lands cannot know it and gives its number to another one. MLflow compares nothing."""
        entries = _mirrored(self.world.state())
        unseen = [e for e in entries if (e["alias"], e["seq"]) not in self._entries]
        self._late |= {entry["hash"] for entry in unseen}

    def _ledger_only_grows(self, state: State) -> list[str]:
        found = []
        for entry in _mirrored(state):
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


def _ledger(promotion: dict[str, Any], state: State) -> ledgers.LedgerState:
    """As MLflow has it."""
    spec = promotion["spec"]
    versions = {number: _tags(version) for number, version in state.versions.items()}
    alias = spec.get("alias", "champion")
    return ledgers.parse_ledger(spec["model"], alias, _tags(state.model), versions)


def _breaks(state: State) -> list[str]:
    """What is wrong with the chains; their last entries may be missing yet."""
    promotions = [each for each in (state.promotion, *state.others) if "spec" in each]
    chains = [ledgers.check(_ledger(each, state)) for each in promotions]
    troubles = [f"I6: {chain.trouble}" for chain in chains if chain.trouble]
    return [*troubles, *(each for chain in chains for each in _unlinked(chain))]


def _unlinked(chain: ledgers.Chain) -> list[str]:
    """Each entry names the one before. Not left to `check`, which is the operator's own: it has to
    believe an entry that follows on a gap."""
    return [
        f"I6: entry {entry.seq} does not name the one before"
        for before, entry in itertools.pairwise(chain.entries)
        if entry.seq == before.seq + 1 and entry.previous != before.hash
    ]


def _approved(intent: dict[str, Any], entries: list[dict[str, Any]], state: State) -> bool:
    """Whether as many people as the spec asks for approved the attempt that promotes it."""
    asked = (state.promotion.get("spec") or {}).get("approval") or {}
    given = {
        e.get("by")
        for e in entries
        if e["action"] == "Approved" and e.get("attempt") == intent.get("attempt")
    }
    return intent["action"] != "PromoteIntent" or len(given) >= asked.get("required", 0)


def _entries(state: State) -> list[dict[str, Any]]:
    """Those in MLflow, and those that only status has; one that both have comes twice."""
    return [*_mirrored(state), *state.status.get("history", [])]


def _mirrored(state: State) -> list[dict[str, Any]]:
    return [
        json.loads(value)
        for each in (state.model, *state.versions.values())
        for key, value in _tags(each).items()
        if key.startswith("podium.dev/ledger/")
    ]


def _tags(raw: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in raw.get("tags", [])}
