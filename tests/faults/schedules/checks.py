"""What must hold in each run: the invariants of `tests.faults.invariants`, and what a state worth
being in is when people interfere.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from podium.cluster.election import LEASE_SECONDS
from podium.engine.ledger import alias_hash
from tests.faults import calls
from tests.faults.calls import System
from tests.faults.containers import Containers
from tests.faults.invariants import ALIAS, STAGE, Watch
from tests.faults.schedules.network import Sender
from tests.faults.stories import ENDED, GOOD, Story
from tests.faults.world import State, World

# A pass that read MLflow just before it went away may still end: two reads and a write at most.
UNAWARE_SECONDS = 25.0


class FreshReads:
    """Rule 3: which promotions a process has read since it last wrote anything for them: each
    write asks for a read of its own. A promotion is known here by its alias."""

    def __init__(self, loads: Mapping[str, str]) -> None:
        """`loads`: the alias of a promotion or Deployment of that name, if it is not champion."""
        self._loads = loads
        self._aliases = {alias_hash(each): each for each in ("champion", *loads.values())}
        self._fresh: set[tuple[str, str]] = set()

    def read(self, identity: str, asked: calls.Asked) -> None:
        if asked.name == "get modelpromotions":
            self._fresh.add((identity, self._alias(asked)))

    def spent(self, identity: str, asked: calls.Asked) -> bool:
        """Whether the promotion was read for this write; it is not, for the next."""
        # A transition does not say for which of two promotions it is.
        told = asked.of or (asked.what == STAGE and len(self._aliases) == 1)
        key = (identity, self._alias(asked))
        if not told or key not in self._fresh:
            return False
        self._fresh.remove(key)
        return True

    def _alias(self, asked: calls.Asked) -> str:
        return self._aliases.get(asked.of) or self._loads.get(asked.of, "champion")


class Checks:
    def __init__(
        self,
        world: World,
        accuracies: Mapping[str, float],
        story: Story,
        meddled: bool,
        containers: Containers,
        holder: Callable[[], str | None],
        deleted: Collection[str] = (),
    ) -> None:
        """`accuracies` of every version that there ever was; `holder` says who has the Lease, as
        the API server has it, and not for how long still."""
        if meddled:  # people and nodes change how many pods there are
            story = replace(story, sags=True)
        self._world = world
        self._watch = Watch(world, story, deleted=deleted, approvals=not meddled)
        self._accuracies = accuracies
        self._containers = containers
        self.holder = holder
        self._meddled = meddled
        self._away_since: dict[System, float] = {}
        self.violations: list[str] = []
        self._begun = False
        self._began_as: str | None = None
        self._gated = True
        self._lease_deleted_at: float | None = None
        self._reads = FreshReads(story.loads)

    def begin(self) -> None:
        self._begun = True
        self._began_as = self._uid()
        self._watch.begin()

    def _uid(self) -> str | None:
        """Of the promotion: made again, it has lost its status."""
        return (self._world.state().promotion.get("metadata") or {}).get("uid")

    def away(self, system: System, gone: bool) -> None:
        if gone:
            self._away_since[system] = asyncio.get_running_loop().time()
        else:
            self._away_since.pop(system, None)

    def sends(self, process: Sender, asked: calls.Asked, late: bool) -> None:
        """I7 and I4, as a write arrives; and rule 3: what serves is changed only by who has read
        the promotion for it."""
        if not asked.writes:
            self._reads.read(process.identity, asked)
        if late or not asked.writes:
            return
        fresh = self._reads.spent(process.identity, asked)
        if asked.what in (ALIAS, "deployments") and not fresh:
            self._found(f"rule 3: {process.identity}: {asked.name} without a fresh read")
        holder = self.holder()
        if holder not in (None, process.identity) and not self._lease_was_deleted():
            self._found(f"I7: {process.identity} writes {asked.name}, {holder} holds the Lease")
        since = self._away_since.get(System.MLFLOW)
        if since is not None and asked.what == "deployments":
            seconds = asyncio.get_running_loop().time() - since
            if seconds > UNAWARE_SECONDS:
                self._found(f"I4: {asked.name} while MLflow is away, for {seconds:.1f} s")

    def lease_is_deleted(self) -> None:
        """Whoever deletes it makes a second leader: the first learns of it when it renews."""
        self._lease_deleted_at = asyncio.get_running_loop().time()

    def _lease_was_deleted(self) -> bool:
        deleted = self._lease_deleted_at
        return deleted is not None and asyncio.get_running_loop().time() < deleted + LEASE_SECONDS

    def wrote(self, process: Sender, asked: calls.Asked, late: bool) -> None:
        """I1, I2, I3, I6, after a write took effect."""
        if self._meddled:
            self._watch.story = replace(self._watch.story, good=self._passing())
        before = len(self._watch.violations)
        if late and self._uid() != self._began_as:
            self._watch.came_late()
        self._watch.wrote(asked, late)
        if asked.what == ALIAS and not late:  # what was held back may have been sent before
            self._watch.moves_to(asked.value, self._world.state())
        found = self._watch.violations[before:]
        self.violations += [f"{process.name}: {one}" for one in found]

    def _passing(self) -> str:
        """The versions that the gates let through, if nobody took the gates away."""
        if not (self._world.state().promotion.get("spec") or {}).get("gates"):
            self._gated = False
        known = self._accuracies.items()
        return "".join(v for v, at in known if at >= GOOD or not self._gated)

    def strangers(self, state: State) -> list[str]:
        """Pods that serve another version than their alias is at, though all is said to be well."""
        if state.promotion and state.condition("Ready").startswith("True"):
            return self._containers.strangers(state)
        return []

    def end(self, state: State) -> list[str]:
        """I6. An entry is lost with the version that somebody deletes."""
        if not state.promotion:
            return []
        deleted = self._accuracies.keys() - state.versions.keys()
        return [one for one in self._watch.end(state) if not (deleted and "I6: entries" in one)]

    def _found(self, violation: str) -> None:
        if self._begun:
            self.violations.append(violation)

    def consistent(self, state: State) -> bool:
        """Whether the alias, the stage, the targets and the status agree, or a person is told."""
        return not self.disagreements(state)

    def disagreements(self, state: State) -> list[str]:
        if not state.promotion:
            return []
        if state.condition("Stalled").startswith("True"):
            return []
        phase = state.attempt.get("phase")
        if phase not in (*ENDED, "AwaitingApproval", "Validating"):
            return [f"an attempt is {phase}"]
        champion = state.status.get("champion", {}).get("version")
        found = []
        if state.promotion["spec"].get("suspend"):
            return []
        ready = state.condition("Ready")
        if champion is None and ready in ("False/NoCandidate", "False/CandidateBlocked"):
            return []  # the selector finds nothing that may be served, and a better one is awaited
        pinned = state.promotion["spec"].get("candidate", {}).get("version")
        if not state.versions and pinned and ready == "False/VersionNotFound":
            return []  # somebody pinned what is not there, and nothing else is
        if phase == "AwaitingApproval" and champion not in state.versions:
            return []  # nothing to serve meanwhile, and a person is asked
        if not ready.startswith("True"):
            found.append(f"Ready is {ready} and nothing is Stalled")
        if state.alias != champion:
            found.append(f"the alias is at {state.alias}, status says {champion}")
        production = {v for v, stage in state.stages.items() if stage == "Production"}
        if champion is not None and production != {champion}:
            found.append(f"Production is {sorted(production)}, the champion {champion}")
        for target in state.promotion["spec"].get("targets", []):
            name = target["deployment"]["name"]
            at = state.annotation(name, "model-version")
            if champion is not None and at not in ("", champion):
                found.append(f"{name} is at {at}, the champion is {champion}")
        return found
