"""One run of a schedule: sets the stage, tells the story, lets things happen, and judges.

What was wrong is in the Outcome's `violations`; the trace has every request that reached a server,
and its digest is the same whenever the schedule is.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from podium.runtime.signing import SECRET_KEY, SECRET_NAME
from tests.faults.calls import System
from tests.faults.schedules import users
from tests.faults.schedules.checks import Checks
from tests.faults.schedules.loop import START, current, run
from tests.faults.schedules.network import Breaking, Network
from tests.faults.schedules.replica import Replica
from tests.faults.schedules.schedule import (
    REPLICAS,
    Away,
    ClockSet,
    Compacted,
    CutOff,
    Drifts,
    Event,
    Frozen,
    Injection,
    Killed,
    Lags,
    OnCall,
    PodsRestart,
    Schedule,
    UserDoes,
)
from tests.faults.schedules.servers import Servers, SimulatedWorld
from tests.faults.stories import STORIES, Play, describe
from tests.faults.world import World
from tests.models.kinds import kind_of

if TYPE_CHECKING:
    from tests.faults.schedules.real import RealReplica
    from tests.faults.schedules.wire import Wire

NAMESPACE = "stories"
PATIENCE = 400.0  # simulated seconds: longer than every backoff, breaker and Lease together
DRIVE_PATIENCE = 120.0
REST_SECONDS = 10.0
NOTICED_SECONDS = 5.0  # a poll or two
RECOVERY_SECONDS = 75.0  # longer than a circuit breaker is open
SETTLED_SECONDS = 4.0  # before the story begins, when nothing goes wrong yet
MOST_POLLS = REST_SECONDS / 0.9 + 3  # of one replica: a request a second, with jitter
MOST_WRITES = 600  # about fifty without faults
BACK_SECONDS = 1.0  # until a killed replica is started again
_KEY = base64.b64encode(bytes(range(32))).decode()


@dataclass
class Outcome:
    """`hows`: how requests were broken; `fired`: the same, with the request that met with it."""

    schedule: Schedule
    violations: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    hows: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # the trace, with the operator's log in between
    simulated: float = 0.0
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def play(schedule: Schedule, log_level: int = logging.ERROR) -> Outcome:
    began = time.process_time()
    outcome = Outcome(schedule)
    random.seed(schedule.seed)  # the jitter of retries, which takes no generator
    run(_play(schedule, outcome, log_level))
    outcome.seconds = time.process_time() - began
    return outcome


async def _play(schedule: Schedule, outcome: Outcome, log_level: int) -> None:
    trial = SimulatedTrial(schedule, outcome)
    with _logs(trial, log_level):
        await trial.judged()
    outcome.simulated = asyncio.get_running_loop().time() - START
    outcome.trace.append(json.dumps(trial.world.state().promotion, sort_keys=True))


@contextlib.contextmanager
def _logs(trial: "Trial", level: int) -> Iterator[None]:
    """The operator's log goes to the trace; an exception nobody expected is a violation."""
    logger, handler = logging.getLogger("podium"), _Handler(trial)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class _Handler(logging.Handler):
    def __init__(self, trial: "Trial") -> None:
        super().__init__()
        self._trial = trial

    def emit(self, record: logging.LogRecord) -> None:
        process = current()
        if process is None or process.dead:
            return
        if record.exc_info and record.levelno >= logging.ERROR:
            said = logging.Formatter("%(message)s").format(record)
            self._trial.outcome.violations.append(f"{process.name}: {said}")
        self._trial.say(f"{process.name}:   {record.levelname} {record.getMessage()}")


class Trial:
    """What is the same whatever the servers are. Who is made of it sets the stage: `world`,
    `checks`, `network`, `replicas` and `play`."""

    world: World
    checks: Checks
    network: "Network | Wire"
    replicas: "Mapping[str, Replica | RealReplica]"
    play: Play
    tracking_uri = "http://mlflow:5000"
    patience = PATIENCE

    def __init__(self, schedule: Schedule, outcome: Outcome) -> None:
        self.schedule, self.outcome = schedule, outcome
        self.story = STORIES[schedule.story]
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._tasks: set[asyncio.Task[None]] = set()

    def compact(self) -> None:
        """Watches that were not told everything yet must list anew."""
        raise NotImplementedError

    def note(self, what: str) -> None:
        self.say(what)
        self.outcome.trace.append(self.outcome.told[-1])

    def say(self, what: str) -> None:
        self.outcome.told.append(f"{self._loop.time() - self._began:9.3f} {what}")

    async def judged(self) -> None:
        """The story told, and what was wrong with it."""
        outcome = self.outcome
        try:
            await self.tell()
        except AssertionError as error:
            state = await self.play.do(self.world.state)
            outcome.violations.append(f"I5: {error}; {describe(state)}")
        except Exception as error:  # one schedule does not end the run of all
            outcome.violations.append(f"the story ended with {type(error).__name__}: {error}")
        outcome.violations += self.checks.violations
        for (sort, nth), (how, label) in self.network.fired.items():
            outcome.hows.append(how.name)
            outcome.fired.append(f"{sort} {nth}, {label}: {how}")

    async def tell(self) -> None:
        """The story, from the empty stage to the rest after its end."""
        await self.play.do(_prepare, self.world, self.tracking_uri)
        for injection in self.schedule.injections:
            if isinstance(injection, Drifts):
                self.replicas[injection.replica].clock.drift = injection.ratio
        for replica in self.replicas.values():
            replica.start()
        await self.story.given(self.play)
        await self._rest(self.patience, SETTLED_SECONDS)
        self._arm()
        self.note("the story begins")
        happening = [asyncio.create_task(self._happen(one)) for one in self.schedule.injections]
        try:
            await self._drive()
            await asyncio.gather(*happening)
            await self._calm()
            await self._end()
        finally:
            for task in (*happening, *self._tasks):
                task.cancel()
            await asyncio.gather(*happening, *self._tasks, return_exceptions=True)

    async def _end(self) -> None:
        self.note("nothing more goes wrong")
        end = self.checks.consistent if self.schedule.meddled else self.story.end
        await self.play.wait("the end of the story", end)
        await asyncio.sleep(NOTICED_SECONDS)
        await self.play.wait("what somebody did last came to its end", end)
        await self.play.wait("MLflow has the whole ledger", lambda s: not self.checks.end(s))
        await self._at_rest()
        state = await self.play.wait("it stays so", end, 5.0)
        self.outcome.violations += self.checks.end(state) + self.checks.strangers(state)
        for replica in self.replicas.values():
            await replica.stop()

    async def _at_rest(self) -> None:
        """I8: no write, and no more requests than polls. A lost event is found by a LIST."""
        if any(isinstance(one, Away | CutOff | Event) for one in self.schedule.injections):
            await asyncio.sleep(RECOVERY_SECONDS)
        late = [one.by for one in self.schedule.injections if isinstance(one, Lags)]
        late += [one.seconds for one in self.schedule.injections if isinstance(one, OnCall)]
        await asyncio.sleep(max(late, default=0.0))  # what was sent before still arrives
        network, found = self.network, self.outcome.violations
        if not await self._rest(60.0):
            found.append("I8: still writing")
        writes, polls = network.writes, network.arrived[System.MLFLOW]
        await asyncio.sleep(REST_SECONDS)
        polls = network.arrived[System.MLFLOW] - polls
        if network.writes > writes:
            found.append(f"I8: {network.writes - writes} writes at rest")
        if polls > MOST_POLLS * len(self.replicas):
            found.append(f"I8: {polls} requests to MLflow at rest")
        if network.writes > MOST_WRITES:
            found.append(f"I5: {network.writes} writes for one story")

    async def _drive(self) -> None:
        """What a story waits for on its way may be over before it is seen; how it ends counts."""
        self.play.patience = DRIVE_PATIENCE
        with contextlib.suppress(AssertionError):
            await self.story.drive(self.play)
        back = [-one.by for one in self.schedule.injections if isinstance(one, ClockSet)]
        self.play.patience = self.patience + max(0.0, *back, 0.0)  # so much later is every deadline

    def _arm(self) -> None:
        self.checks.begin()
        self.network.armed = True
        for replica in self.replicas.values():
            replica.bad.armed = True
        for one in self.schedule.injections:
            if isinstance(one, OnCall):
                self.network.breaks[one.sort, one.nth] = Breaking(one.how, one.seconds)
            elif isinstance(one, Event) and one.replica in self.replicas:
                bad = self.replicas[one.replica].bad
                (bad.dropped if one.lost else bad.twice).add((one.kind, one.nth))

    async def _happen(self, one: Injection) -> None:
        if isinstance(one, OnCall | Drifts | Event):
            return
        await asyncio.sleep(one.at)
        self.note(f"* {one}")
        match one:
            case Killed():
                replica = self.replicas[one.replica]
                await (replica.stop() if one.politely else replica.kill())
                await asyncio.sleep(one.back_after)
                self._start(replica)
            case Frozen():
                if (process := self.replicas[one.replica].process) is not None:
                    self.freeze(process, one.seconds)
                    await asyncio.sleep(one.seconds)
            case CutOff():
                cut = {(one.replica, system) for system in one.systems}
                self.network.cuts |= cut
                await asyncio.sleep(one.seconds)
                self.network.cuts -= cut
            case Away():
                self.network.outages[one.system] = one.how
                self.checks.away(one.system, True)
                await asyncio.sleep(one.seconds)
                self.network.outages.pop(one.system, None)
                self.checks.away(one.system, False)
            case ClockSet():
                self.replicas[one.replica].clock.step += one.by
            case Lags():
                lag = self.replicas[one.replica].bad.lag
                lag[one.kind] = one.by
                await asyncio.sleep(one.seconds)
                lag.pop(one.kind, None)
            case Compacted():
                self.compact()
            case PodsRestart():
                await self._restart_pods()
            case UserDoes():
                if one.deed == users.DELETES_LEASE:
                    self.checks.lease_is_deleted()
                await users.do(one.deed, self.play)

    async def _restart_pods(self) -> None:
        for pod in (await self.play.do(self.world.state)).pods:
            if not pod["metadata"].get("deletionTimestamp"):
                await self.play.spoil(pod["metadata"]["name"], "restart-1")

    async def _calm(self) -> None:
        self.network.breaks.clear()
        for replica in self.replicas.values():
            replica.bad.dropped.clear()
            replica.bad.twice.clear()
            if replica.process is not None:
                replica.process.resume()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for replica in self.replicas.values():
            self._start(replica)
        await self.play.wait("somebody leads", lambda _: self.checks.holder() in self._identities())

    def _identities(self) -> set[str]:
        found = (replica.process for replica in self.replicas.values())
        return {process.identity for process in found if process is not None}

    def _start(self, replica: "Replica | RealReplica") -> None:
        if not replica.runs:
            self.note(f"{replica.name} starts")
            replica.start()

    def kill(self, process: Any) -> None:
        """Called by the network when a request is the last that a process sent."""
        task = asyncio.create_task(self._killed(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _killed(self, process: Any) -> None:
        replica = self.replicas[process.name]
        if replica.process is process:
            await replica.kill()
            await asyncio.sleep(BACK_SECONDS)
            if replica.process is None:
                self._start(replica)

    def freeze(self, process: Any, seconds: float) -> None:
        process.pause()
        self._loop.call_later(seconds, process.resume)

    async def _rest(self, within: float, quiet: float = REST_SECONDS) -> bool:
        """Waits until nothing was written for so long. False: it never stopped."""
        end = self._loop.time() + within
        while self._loop.time() < end:
            before = self.network.writes
            await asyncio.sleep(quiet)
            if self.network.writes == before:
                return True
        return False


async def _at_once(call: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
    return call(*args, **named)


class SimulatedTrial(Trial):
    """Against the models, in simulated time."""

    def __init__(self, schedule: Schedule, outcome: Outcome) -> None:
        super().__init__(schedule, outcome)
        self._loop.set_exception_handler(self._exception)
        self.servers = Servers(schedule.seed)
        world = SimulatedWorld(self.servers, NAMESPACE)
        self.world = world
        loads = self.story.loads
        containers = self.servers.containers(world, lambda app: loads.get(app, "champion"))
        self.checks = Checks(
            world, world.accuracies, self.story, schedule.meddled, containers, self._holder
        )
        self.network = Network(
            self.servers.begin,
            self.checks.sends,
            self.checks.wrote,
            self.kill,
            self.freeze,
            random.Random(f"{schedule.seed} network"),
            self.note,
        )
        self.replicas = {name: self._replica(name) for name in REPLICAS[: schedule.replicas]}
        self.play = Play(world, lambda: None, do=_at_once, patience=PATIENCE)

    def compact(self) -> None:
        self.servers.compact()

    def _replica(self, name: str) -> Replica:
        assert isinstance(self.network, Network)
        return Replica(
            name,
            self.schedule.seed,
            self.servers,
            self.network,
            NAMESPACE,
            self.outcome.violations.append,
            self.note,
        )

    def _holder(self) -> str | None:
        lease = self.servers.api.storage.find(kind_of("leases"), (NAMESPACE, "podium-operator"))
        return lease.content["spec"].get("holderIdentity") if lease else None

    def _exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        process = current()
        if process is not None and not process.dead:
            error = context.get("exception")
            self.outcome.violations.append(f"{process.name}: {context['message']}: {error!r}")


def _prepare(world: World, tracking_uri: str) -> None:
    def made(path: str, api: str, kind: str, name: str, **rest: Any) -> None:
        body = {"apiVersion": api, "kind": kind, "metadata": {"name": name}, **rest}
        world.cluster.call("POST", path, body)

    made("/api/v1/namespaces", "v1", "Namespace", world.namespace)
    made(world.path("secrets", group="v1"), "v1", "Secret", SECRET_NAME, data={SECRET_KEY: _KEY})
    spec = {"trackingURI": tracking_uri, "pollInterval": "1s"}
    path = world.path("modelregistries")
    made(path, "podium.dev/v1alpha1", "ModelRegistry", "mlflow", spec=spec)
    world.registry.create(world.model)
