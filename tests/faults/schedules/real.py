"""A schedule played with real processes, a real API server and a real MLflow, in real time.

Trial, injections and checks are those of simulated time; only the stage is another. Latencies are
the machine's, so a seed is not the same run each time: the n-th request may be another one.
"""

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.faults.calls import Asked
from tests.faults.containers import Containers
from tests.faults.harness import KeptRegistry
from tests.faults.process import Operator, WrongClock
from tests.faults.relay import Servers
from tests.faults.schedules.checks import Checks
from tests.faults.schedules.network import Sender
from tests.faults.schedules.replica import REPAIR_SECONDS
from tests.faults.schedules.schedule import FAR, REPLICAS, ClockSet, Injection, Schedule
from tests.faults.schedules.trial import Outcome, Trial
from tests.faults.schedules.watching import Bad
from tests.faults.schedules.wire import Judge, Seat, Wire
from tests.faults.stories import Play
from tests.faults.world import World
from tests.integration.operator.conftest import Registry

PATIENCE = 200.0
STOP_SECONDS = 30.0


class _User(KeptRegistry):
    """A user's program that speaks to MLflow."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.accuracies: dict[str, float] = {}  # of every version that there ever was
        self.deleted: set[str] = set()  # noted first: a check may look while it is deleted

    def register(self, model: str, **metrics: float) -> str:
        version = super().register(model, **metrics)
        self.accuracies[version] = metrics["accuracy"]
        return version

    def delete_version(self, model: str, version: str) -> None:
        self.deleted.add(version)
        super().delete_version(model, version)


class _Clock:
    """As `replica.MachineClock` is set."""

    def __init__(self, worn: WrongClock) -> None:
        self.worn = worn
        self._step = self._drift = 0.0

    @property
    def step(self) -> float:
        return self._step

    @step.setter
    def step(self, seconds: float) -> None:
        self._step = seconds
        self.worn.set(self._step, self._drift)

    @property
    def drift(self) -> float:
        return self._drift

    @drift.setter
    def drift(self, ratio: float) -> None:
        self._drift = ratio
        self.worn.set(self._step, self._drift)


class RealReplica:
    """A pod of the operator's Deployment, without a kubelet."""

    def __init__(
        self,
        name: str,
        namespace: str,
        wire: Wire,
        folder: Path,
        breaks: str | None,
        note: Callable[[str], None],
        violated: Callable[[str], None],
    ) -> None:
        self.name, self._breaks, self._violated = name, breaks, violated
        self.bad = Bad()
        self.clock = _Clock(WrongClock(folder / f"{name}.clock"))
        self.process: Seat | None = None
        self._namespace, self._wire, self._folder, self._note = namespace, wire, folder, note
        self._operator: Operator | None = None
        self._ending = False  # by us
        self._starts = 0

    @property
    def runs(self) -> bool:
        return self.process is not None and not self.process.dead

    @property
    def ended(self) -> bool:
        """By itself."""
        return self._operator is not None and not self._ending and self._operator.ended

    def start(self) -> None:
        self._starts += 1
        seat = f"{self.name}{self._starts}"
        operator = Operator(
            seat,
            self._namespace,
            self._wire.kubernetes,
            self._folder,
            self._breaks,
            self.clock.worn,
            ("--repair-interval", f"{REPAIR_SECONDS:.0f}"),
        )
        self._operator, self._ending = operator, False
        self.process = Seat(self.name, seat, self.bad, operator.pause, operator.resume)
        self._wire.seats[seat] = self.process

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end("is killed", lambda operator: operator.kill())

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after thirty seconds."""
        await self._end("is told to stop", self._stop)

    def _stop(self, operator: Operator) -> None:
        code = operator.stop(STOP_SECONDS)
        if code is not None and code > 0:  # else a signal ended it, before it could hear this one
            self._violated(f"{operator.seat} was told to stop and ended with {code}")

    async def _end(self, how: str, end: Callable[[Operator], None]) -> None:
        operator, process = self._operator, self.process
        if operator is None or process is None:
            return
        if self.ended:
            self._violated(f"{operator.seat} ended by itself")
        self._ending = True
        self._note(f"{self.name} {how}")
        await asyncio.to_thread(end, operator)
        process.dead = True
        if self.process is process:
            self.process = self._operator = None


class RealTrial(Trial):
    patience = PATIENCE

    def __init__(
        self,
        schedule: Schedule,
        outcome: Outcome,
        servers: Servers,
        wire: Wire,
        folder: Path,
        breaks: str | None,
    ) -> None:
        super().__init__(schedule, outcome)
        user = _User(servers.mlflow)
        self._user, self._wire = user, wire
        self.world = World(servers.cluster, user, f"schedule-{secrets.token_hex(4)}")
        self.tracking_uri = wire.mlflow
        self.containers = Containers(
            lambda alias: Registry(servers.mlflow).alias(self.world.model, alias),
            lambda app: self.story.loads.get(app, "champion"),
        )
        self.checks = Checks(
            self.world,
            user.accuracies,
            self.story,
            schedule.meddled,
            self.containers,
            lambda: wire.holder,
            user.deleted,
        )
        wire.judge = Judge(self.checks.sends, self._wrote, self.kill, self.freeze, self.note)
        self.network = wire
        names, found = REPLICAS[: schedule.replicas], outcome.violations
        self.replicas = {
            name: RealReplica(
                name, self.world.namespace, wire, folder, breaks, self.note, found.append
            )
            for name in names
        }
        self.play = Play(self.world, self._alive, patience=PATIENCE)

    def compact(self) -> None:
        task = asyncio.create_task(self._wire.compact())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        for replica in self.replicas.values():
            await replica.kill()

    def _wrote(self, seat: Sender, asked: Asked, late: bool) -> None:
        self._user.changed()
        try:
            self.checks.wrote(seat, asked, late)
        except Exception as error:  # what cannot be judged does not hold
            self.outcome.violations.append(f"after {asked.name}: cannot be judged: {error!r}")

    def _alive(self) -> None:
        for replica in self.replicas.values():
            if replica.ended:
                raise AssertionError(f"{replica.name} ended by itself")


async def play(servers: Servers, schedule: Schedule, breaks: str | None = None) -> Outcome:
    outcome = Outcome(replace(schedule, injections=tuple(map(_nearer, schedule.injections))))
    schedule, began = outcome.schedule, time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-schedule-")))
        wire = await stack.enter_async_context(Wire(servers))
        trial = RealTrial(schedule, outcome, servers, wire, folder, breaks)
        namespace = f"/api/v1/namespaces/{trial.world.namespace}"
        stack.push_async_callback(asyncio.to_thread, servers.cluster.call, "DELETE", namespace)
        stack.push_async_callback(trial.end)
        failed = outcome.violations.append
        pods = wire.watching_pods(trial.world.namespace, trial.containers.saw, failed)
        await stack.enter_async_context(pods)
        await trial.judged()
        await trial.end()
        _read_logs(folder, outcome)
    outcome.simulated = outcome.seconds = time.monotonic() - began
    return outcome


def _nearer(one: Injection) -> Injection:
    """A clock that is set back delays each deadline by as much, and an hour is real here."""
    return replace(one, by=max(one.by, -FAR)) if isinstance(one, ClockSet) else one


def _read_logs(folder: Path, outcome: Outcome) -> None:
    for log in sorted(folder.glob("*.log")):
        text = log.read_text(errors="replace")
        outcome.told += [f"--- {log.stem}", text]
        if "Traceback" in text:
            outcome.violations.append(f"the log of {log.stem} has a traceback")
