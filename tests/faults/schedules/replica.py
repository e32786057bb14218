"""One replica of the operator: the real `podium.runtime.main.run`, in a process that can die.

Its clock is its machine's own: it may drift, and somebody may set the time of day.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from podium.runtime import main
from podium.runtime.settings import Settings
from tests.faults.schedules.loop import Process, VirtualLoop
from tests.faults.schedules.network import Network
from tests.faults.schedules.servers import Servers
from tests.faults.schedules.sessions import Access, SimulatedConnection, SimulatedRegistryClient
from tests.faults.schedules.watching import Bad, Watches

REPAIR_SECONDS = 45.0  # ten minutes in earnest: what a watch lost is found within the story


@dataclass
class MachineClock:
    """`drift` is a ratio (0.01: a second in a hundred too fast), `step` seconds."""

    servers: Servers
    drift: float = 0.0
    step: float = 0.0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() * (1.0 + self.drift)

    def now(self) -> datetime:
        return self.servers.now() + timedelta(seconds=self.step)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / (1.0 + self.drift))


@dataclass
class Replica:
    """A pod of the operator's Deployment. `ended` is told when the process ends by itself."""

    name: str
    seed: str
    servers: Servers
    network: Network
    namespace: str
    ended: Callable[[str], None]
    note: Callable[[str], None]
    clock: MachineClock = field(init=False)
    bad: Bad = field(default_factory=Bad)
    process: Process | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _starts: int = 0
    _task: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self.clock = MachineClock(self.servers)

    @property
    def runs(self) -> bool:
        return self.process is not None and not self.process.dead

    def start(self) -> None:
        self._starts += 1
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.process = Process(loop, self.name, f"{self.name}_{self._starts}")
        self._stop = asyncio.Event()
        self._task = self.process.start(self._run(self.process, self._stop))

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.note(f"{self.name} is killed")
            await self.process.kill()
            self.process = None

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after thirty seconds."""
        if not self.runs or self._task is None:
            return
        self.note(f"{self.name} is told to stop")
        self._stop.set()
        await asyncio.wait([self._task], timeout=30.0)
        await self.kill()

    async def _run(self, process: Process, stop: asyncio.Event) -> None:
        seed = f"{self.seed} {self.name} {self._starts}"
        watches = Watches(
            self.servers.api,
            self.network,
            process,
            self.servers.changed,
            self.bad,
            random.Random(f"{seed} watches"),
            self.note,
        )

        async def access() -> Access:
            return Access()

        outside = main.Outside(
            clock=self.clock,
            rng=random.Random(f"{seed} jitter"),
            load_access=access,
            connection=partial(SimulatedConnection, self.network, process),
            registry_client=partial(SimulatedRegistryClient, self.network, process),
            identity=lambda _: process.identity,
            watch=watches,
        )
        code = await main.run(self._settings(), stop, outside)
        if not process.dead and not (stop.is_set() and code == 0):
            self.ended(f"{self.name} ended by itself with {code}")

    def _settings(self) -> Settings:
        return Settings(
            namespaces=(self.namespace,),
            lease_namespace=self.namespace,
            lease_name="podium-operator",
            pod_name=self.name,
            bind="127.0.0.1",
            metrics_port=0,
            health_port=0,
            workers=2,
            max_rollouts=10,
            repair_interval=REPAIR_SECONDS,
            log_level="INFO",
        )
