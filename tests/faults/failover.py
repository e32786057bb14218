"""Two operators take turns while promotions are under way: the leader is killed, paused or cut off.

Each operator speaks through a `Line` of its own. In some failovers the network keeps one write of
the leader and commits it when its Lease has run out and the next leader has acted. What is told
here is one pair of operators in one namespace; `failovers` runs many and prints the table.
"""

import asyncio
import contextlib
import json
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.faults import fencing
from tests.faults.calls import System
from tests.faults.line import Held, Line, Sent, lines
from tests.faults.relay import Servers
from tests.faults.replica import Replica
from tests.faults.scene import (
    PATIENCE,
    POLL_SECONDS,
    Promotions,
    all_ready,
    namespace,
    new_world,
    until,
)
from tests.faults.stories import describe
from tests.faults.world import World

TARGET_SECONDS = 15.0
LEASE = "podium-operator"
RESTING_SECONDS = 1.5  # without a write of the leader


class Kind(StrEnum):
    KILLED = "killed"
    PAUSED = "paused"
    CUT_OFF = "cut off"


@dataclass(frozen=True)
class Plan:
    """The fault comes at the `nth` write of the promotion whose name has `what` in it.

    `delayed`: the network keeps that write. `overtaken`: one more version is promoted before it
    is let go. `early`: the old leader is back as soon as the next one has written something,
    else when the promotion is over.
    """

    kind: Kind
    what: str
    nth: int
    delayed: bool
    overtaken: bool
    early: bool


SERVES = ("registered-models/alias", "patch deployments")  # once in each promotion
DELAYED = (
    *SERVES,
    "registered-models/set-tag podium.dev/head",
    "model-versions/set-tag",
    "transition-stage",
    "modelpromotions/status",
    "",
)


def plan(kind: Kind, rng: random.Random) -> Plan:
    """What serves is always undone: only what came before one more version does harm there."""
    delayed = rng.random() < 0.6
    what = rng.choice(DELAYED) if delayed else ""
    serves = what in SERVES
    return Plan(
        kind,
        what,
        nth=1 if serves else rng.randint(1, 2 if what else 20),
        delayed=delayed,
        overtaken=delayed and (rng.random() < 0.6 or serves),
        early=rng.random() < 0.3 and not serves,
    )


@dataclass
class Failover:
    """One failover. Seconds since the fault, or since the late commit."""

    plan: Plan
    at_write: str = ""
    taken: float | None = None  # the next leader has the Lease
    read: float | None = None  # its first request to MLflow
    wrote: float | None = None  # its first write
    promoted: float | None = None  # the version that was under way is served
    late: list[str] = field(default_factory=list)  # what the network committed late
    timed: bool = False  # at rest; else the next leader was at work, and was right in the end
    harmed: bool = False  # and something was wrong, or put right, after that
    found: float | None = None
    repaired: float | None = None
    violations: list[str] = field(default_factory=list)


@dataclass
class Result:
    """What one pair showed."""

    failovers: list[Failover]
    writes: int
    violations: list[str]


class Pair(Promotions):
    """Two operators of one namespace, each with its line."""

    def __init__(self, world: World, replicas: list[Replica], rng: random.Random) -> None:
        super().__init__(world)
        self.replicas, self.rng = replicas, rng

    @property
    def sent(self) -> list[Sent]:
        return [each for replica in self.replicas for each in replica.line.sent]

    def leading(self) -> Replica | None:
        known = fencing.terms(self.sent)
        if not known or not known[-1].holder or known[-1].ends < time.time():
            return None
        return next(r for r in self.replicas if r.name == known[-1].line)

    async def rest(self) -> None:
        """Until nobody has written anything for a while."""
        await until("writes end", lambda: time.time() - self.last_write() > RESTING_SECONDS)

    def last_write(self) -> float:
        return max((each.at for each in self.sent if each.writes and not each.lease), default=0.0)

    async def failover(self, plan: Plan) -> Failover:
        done = Failover(plan)
        try:
            await self._play(plan, done)
        except (AssertionError, TimeoutError) as error:
            done.violations.append(f"{error}; {describe(await self.state())}")
        return done

    async def _play(self, plan: Plan, done: Failover) -> None:
        await all_ready(self.replicas)
        await until("somebody leads", lambda: self.leading() is not None)
        await asyncio.sleep(self.rng.uniform(0.0, 2.0))  # anywhere between two renewals
        old = self.leading()
        assert old is not None, "the Lease was lost without a fault"
        new = next(replica for replica in self.replicas if replica is not old)
        moment = Moment(old.line, plan)
        await self.register()
        await moment.wait(seconds=20.0)
        done.at_write = moment.caught.name if moment.caught else "(at rest)"
        began = time.time()
        inflict(plan.kind, old)
        await self._takeover(new, began, done)
        if plan.early:
            await self._come_back(plan, old, moment, done, look=False)
            await self.settle()
            done.promoted = time.time() - began
            return
        await self.settle()
        done.promoted = time.time() - began
        if plan.overtaken:
            await self.register()
            await self.settle()
        await self._come_back(plan, old, moment, done, look=True)

    async def _takeover(self, new: Replica, began: float, done: Failover) -> None:
        def taken() -> float | None:
            terms = (t for t in fencing.terms(new.line.sent) if t.holder and t.answered > began)
            return next((term.answered for term in terms), None)

        moment = await until("the Lease is taken", taken, 3 * TARGET_SECONDS)
        done.taken = moment - began

        def first(wanted: Callable[[Sent], bool]) -> float | None:
            later = (s.at for s in new.line.sent if s.at >= moment and wanted(s))
            return min(later, default=None)

        # At rest there is nothing to write, but the registry is always looked at.
        asked = await until("work begins", lambda: first(lambda s: s.system is System.MLFLOW))
        done.read = asked - began
        with contextlib.suppress(AssertionError):
            wrote = await until(
                "it writes", lambda: first(lambda s: s.writes and not s.lease), 15.0
            )
            done.wrote = wrote - began

    async def _come_back(
        self, plan: Plan, old: Replica, moment: "Moment", done: Failover, *, look: bool
    ) -> None:
        """The old leader is there again, and what the network kept is committed."""
        if look:
            await self.rest()
        before = time.time()
        if moment.held is not None and moment.held.sent is not None:
            moment.held.let_go.set()
            async with asyncio.timeout(10):
                await moment.held.done.wait()
        bring_back(plan.kind, old)
        await asyncio.sleep(0.3)  # what was cut off comes in too
        late = [
            each
            for each in self.sent
            if each.late and each.writes and not each.lease and (each.answered or 0) >= before
        ]
        done.late = [f"{each.name}: {each.status}" for each in late]
        committed = [each.answered for each in late if each.took_effect and each.answered]
        done.timed = look
        if look and committed:
            await self._repair(max(committed), done)

    async def _repair(self, committed: float, done: Failover) -> None:
        """What the late commit disturbed is found within a poll, and put right."""
        end = committed + 2 * POLL_SECONDS + 1.0
        wrong_at = None
        while time.time() < end or wrong_at is not None:
            state = await self.state()
            if not self.right(state):
                wrong_at = time.time()
                done.harmed = True
                if wrong_at > committed + PATIENCE:
                    raise AssertionError(f"not repaired: {self.watch.end(state)}")
            elif wrong_at is not None:
                done.repaired = time.time() - committed
                break
            await asyncio.sleep(0.05)
        writes = [s.at for s in self.sent if s.writes and not s.lease and s.at > committed]
        if writes:
            done.harmed = True
            done.found = min(writes) - committed
            await self.rest()
            await self.settle()
            done.repaired = done.repaired or self.last_write() - committed


class Moment:
    """The write at which the fault comes, kept by the network or only noticed."""

    def __init__(self, line: Line, plan: Plan) -> None:
        self._line, self._plan = line, plan
        self._seen = 0
        self._came = asyncio.Event()
        self.caught: Sent | None = None
        self.held: Held | None = None
        if plan.delayed:
            self.held = line.hold(self._wanted)
        else:
            line.noticed = self._notice

    def _wanted(self, sent: Sent) -> bool:
        if self.caught or not sent.writes or sent.lease or self._plan.what not in sent.name:
            return False
        self._seen += 1
        if self._seen < self._plan.nth:
            return False
        self.caught = sent
        self._came.set()
        return True

    def _notice(self, sent: Sent) -> None:
        self._wanted(sent)

    async def wait(self, seconds: float) -> None:
        """Until it came, or the promotion was over before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()
        self._line.noticed = lambda _: None
        if self.caught is None and self.held is not None:
            self.held.let_go.set()


def inflict(kind: Kind, replica: Replica) -> None:
    match kind:
        case Kind.KILLED:
            replica.kill()
        case Kind.PAUSED:
            replica.signal(signal.SIGSTOP)
        case Kind.CUT_OFF:
            replica.line.cut()


def bring_back(kind: Kind, replica: Replica) -> None:
    match kind:
        case Kind.KILLED:
            replica.start()
        case Kind.PAUSED:
            replica.signal(signal.SIGCONT)
        case Kind.CUT_OFF:
            replica.line.heal()


async def run(
    real: Servers, plans: list[Plan], seed: int, tell: Callable[[Failover], None]
) -> Result:
    """One pair, through these failovers one after the other; `tell` hears of each."""
    rng = random.Random(seed)
    world = new_world(real, "failover")
    done: list[Failover] = []
    stuck: list[str] = []
    with tempfile.TemporaryDirectory(prefix="podium-failover-") as folder:
        async with lines(real, "a", "b") as both, namespace(world):
            replicas = [Replica(line, world.namespace, Path(folder)) for line in both]
            pair = Pair(world, replicas, rng)
            async with _records(world) as stored, _running(replicas):
                # On a slow machine no rollout is to be given up.
                await pair.adopt(both[0], rollout={"progressDeadline": "5m"})
                await pair.settle()
                try:
                    for each in plans:
                        done.append(await pair.failover(each))
                        tell(done[-1])
                        if done[-1].violations:
                            break  # what comes after it would say nothing
                except AssertionError as error:
                    stuck = [f"{each}: {error}"]
            writes, violations = fencing.judge(pair.sent)
            violations += stuck + _same_records(pair, stored)
            for replica in replicas:
                log = replica.log.read_text(errors="replace")
                if "Traceback" in log:
                    violations.append(f"{replica.name}'s log has a traceback\n{replica.said()}")
    return Result(done, writes, violations)


@contextlib.asynccontextmanager
async def _running(replicas: list[Replica]) -> AsyncIterator[None]:
    try:
        for replica in replicas:
            replica.start()
        yield
    finally:
        for replica in replicas:
            replica.kill()


Record = tuple[int, str, float]


@contextlib.asynccontextmanager
async def _records(world: World) -> AsyncIterator[set[Record]]:
    """The Lease's records as the API server has them, asked directly all the while."""
    stored: set[Record] = set()
    path = world.path("leases", LEASE, "coordination.k8s.io/v1")

    async def ask() -> None:
        while True:
            lease = await asyncio.to_thread(world.cluster.call, "GET", path)
            if lease is not None:
                stored.add(fencing.record(lease))
            await asyncio.sleep(0.5)

    task = asyncio.create_task(ask())
    try:
        yield stored
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _same_records(pair: Pair, stored: set[Record]) -> list[str]:
    """Whether what was judged by is what the API server said."""
    known = {(term.version, term.holder, term.renewed) for term in fencing.terms(pair.sent)}
    strange = [record for record in stored if record not in known]
    if not stored:
        return ["the Lease was never seen"]
    return [f"the lines missed the Lease's record {json.dumps(each)}" for each in strange]
