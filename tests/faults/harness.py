"""One trial: a story, played against real servers, with none, one or a few of its calls broken.

The operator is a process of its own that is killed by SIGKILL. Its Lease is deleted with it, so
that the next one need not wait for it to run out: nothing of a dead process writes any more, and
what the network still holds are the faults DELAYED and LATE. Two that live at once, where the
Lease does run out, are the fault PAUSED.
"""

import asyncio
import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.calls import Asked, Call, System
from tests.faults.containers import Containers
from tests.faults.fault import Fault
from tests.faults.invariants import ALIAS, MOVES, Watch
from tests.faults.process import Operator
from tests.faults.proxy import LAG_SECONDS, Proxy
from tests.faults.relay import Servers
from tests.faults.stories import Play, Story, describe
from tests.faults.world import World
from tests.integration.operator.conftest import Registry

POLL_SECONDS = 1.0
NOTICED_SECONDS = POLL_SECONDS + 3.0  # a poll, and what a machine full of trials takes for it
LOOK_SECONDS = 0.5  # a fifth of the API server's work was to be looked at when it was 0.25
REST_SECONDS = 3.0
REST_PATIENCE = 30.0
_PROMOTIONS = "modelpromotions"


@dataclass
class Outcome:
    """What a trial showed. No `violations`: everything held."""

    calls: tuple[Call, ...] = ()
    staleable: frozenset[Call] = frozenset()  # reads that gave something else before
    fired: frozenset[Call] = frozenset()  # of those that were to be broken
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    log: str = ""


class KeptRegistry(Registry):
    """Asks MLflow again only after somebody wrote: nobody but the trial knows its model."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._known: dict[str, Any] = {}

    def changed(self) -> None:
        self._known = {}

    def call(self, verb: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        if verb != "GET":
            try:
                return super().call(verb, path, body, **query)
            finally:
                self.changed()
        key, known = f"{path} {query}", self._known
        if key not in known:
            known[key] = super().call(verb, path, body, **query)
        return known[key]


class Trial:
    """A namespace and a model with the operators, proxy and checks of one trial."""

    def __init__(self, servers: Servers, story: Story, folder: Path, breaks: str | None) -> None:
        self._registry = KeptRegistry(servers.mlflow)
        self.world = World(servers.cluster, self._registry, f"faults-{secrets.token_hex(4)}")
        self.watch = Watch(self.world, story)
        self.containers = Containers(self._alias, lambda app: story.loads.get(app, "champion"))
        self.operators: list[Operator] = []
        self.server = ""
        self._servers, self._folder, self._breaks = servers, folder, breaks
        self._paused: Operator | None = None
        self._deleted = False
        self._made = 0
        self._changing, self._over = threading.RLock(), False

    # What the proxy asks for

    async def kill(self) -> None:
        await asyncio.to_thread(self._replace)

    async def pause(self) -> None:
        with self._changing:
            if self._over:
                return
            self._paused = self.operators[-1]
            self._paused.pause()
        await asyncio.to_thread(self.start)

    async def resume(self) -> None:
        if self._paused is not None:
            self._paused.resume()

    async def delete(self) -> None:
        self._deleted = True
        for each in await self._promotions():
            path = self.world.path(_PROMOTIONS, each["metadata"]["name"])
            await asyncio.to_thread(self.world.cluster.call, "DELETE", path)

    async def sends(self, asked: Asked, seat: str, leader: str | None, away: float | None) -> None:
        self.watch.sends(asked, seat, leader, away)
        if asked.what == ALIAS:
            try:
                self.watch.moves_to(asked.value, await asyncio.to_thread(self.world.state))
            except Exception as error:  # what cannot be judged does not hold
                self.watch.violations.append(f"at {asked.name}: cannot be judged: {error!r}")
        if self._deleted and asked.what in MOVES:
            self.watch.acts_for(asked, len(await self._promotions()))

    async def _promotions(self) -> list[dict[str, Any]]:
        path = self.world.path(_PROMOTIONS)
        listed = await asyncio.to_thread(self.world.cluster.call, "GET", path)
        return list(listed["items"])

    async def wrote(self, asked: Asked, late: bool) -> None:
        if asked.system is System.MLFLOW:
            self._registry.changed()
        try:
            await asyncio.to_thread(self.watch.wrote, asked, late)
        except Exception as error:  # what cannot be judged does not hold
            self.watch.violations.append(f"after {asked.name}: cannot be judged: {error!r}")

    # Operators

    def start(self) -> None:
        with self._changing:
            if self._over:  # a kill or a pause that came as the play was ending
                return
            self._made += 1
            seat, namespace = f"seat{self._made}", self.world.namespace
            operator = Operator(seat, namespace, self.server, self._folder, self._breaks)
            self.operators.append(operator)

    def end(self) -> None:
        with self._changing:
            self._over = True
            while self.operators:
                self.operators.pop().kill()

    def alive(self) -> None:
        for operator in tuple(self.operators):
            if operator.ended:
                raise AssertionError(f"the operator of {operator.seat} ended by itself")

    def log(self) -> str:
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"--- {log.stem}\n{log.read_text(errors='replace')}" for log in logs)

    def _replace(self) -> None:
        """SIGKILL; then a new process, which need not wait for the Lease of the dead one."""
        with self._changing:
            if self._over:
                return
            self.operators.pop().kill()
            path = self.world.path("leases", "podium-operator", "coordination.k8s.io/v1")
            self.world.cluster.call("DELETE", path)
            self.start()

    # The servers

    def make(self, mlflow: str) -> None:
        metadata = {"name": self.world.namespace}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        self.world.cluster.call("POST", "/api/v1/namespaces", namespace)
        self.world.registry.create(self.world.model)
        spec = {"trackingURI": mlflow, "pollInterval": f"{POLL_SECONDS:.0f}s"}
        kind = {"apiVersion": "podium.dev/v1alpha1", "kind": "ModelRegistry"}
        body = {**kind, "metadata": {"name": "mlflow"}, "spec": spec}
        self.world.apply("modelregistries", body)

    def unmake(self) -> None:
        self.world.cluster.call("DELETE", f"/api/v1/namespaces/{self.world.namespace}")

    def _alias(self, name: str) -> str | None:
        return Registry(self._servers.mlflow).alias(self.world.model, name)


async def run(
    servers: Servers,
    story: Story,
    at: Collection[Call] = (),
    fault: Fault | None = None,
    breaks: str | None = None,
) -> Outcome:
    """Plays `story`, with `fault` at each call of `at`. Without any it only records."""
    began = time.monotonic()
    outcome = Outcome()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-faults-"))
        trial = Trial(servers, story, Path(folder), breaks)
        proxy = await stack.enter_async_context(Proxy(servers, trial, at, fault))
        trial.server = proxy.kubernetes
        await asyncio.to_thread(trial.make, proxy.mlflow)
        stack.push_async_callback(asyncio.to_thread, trial.unmake)
        failed = trial.watch.violations.append
        pods = proxy.watching_pods(trial.world.namespace, trial.containers.saw, failed)
        await stack.enter_async_context(pods)
        stack.push_async_callback(asyncio.to_thread, trial.end)
        outcome.violations += await _play(trial, story, proxy)
        outcome.violations += trial.watch.violations
        outcome.calls, outcome.fired = tuple(proxy.seen), frozenset(proxy.fired)
        outcome.staleable = frozenset(proxy.staleable)
        outcome.log = trial.log()
        if "Traceback" in outcome.log:
            outcome.violations.append("the operator's log has a traceback")
    outcome.seconds = time.monotonic() - began
    return outcome


async def _play(trial: Trial, story: Story, proxy: Proxy) -> list[str]:
    """What was violated in the end; what was on the way, `watch` has."""
    play = Play(trial.world, trial.alive, look_every=LOOK_SECONDS)
    try:
        if not story.starts:
            await asyncio.to_thread(trial.start)
        await story.given(play)
        if not story.starts:
            await _rest(proxy)
        trial.watch.begin()
        proxy.arm()
        if story.starts:
            await asyncio.to_thread(trial.start)
        told = asyncio.create_task(_told(trial, play, story, proxy))
        deleted = asyncio.create_task(proxy.deleted.wait())
        await asyncio.wait({told, deleted}, return_when=asyncio.FIRST_COMPLETED)
        if proxy.deleted.is_set():
            told.cancel()
            return await _left_alone(proxy)
        deleted.cancel()
        found = await told
        while proxy.holds_late():
            found += await _repaired(trial, play, story, proxy)
        while proxy.shows_the_past():
            await proxy.lag()
            found += await _ended(trial, play, story, proxy)
    except AssertionError as error:
        found = [f"I5: {error}; {describe(trial.world.state())}"]
    return found


async def _told(trial: Trial, play: Play, story: Story, proxy: Proxy) -> list[str]:
    await story.drive(play)
    return await _ended(trial, play, story, proxy)


async def _left_alone(proxy: Proxy) -> list[str]:
    """The promotion was deleted: the story ends here, and nothing that serves may change."""
    await asyncio.sleep(LAG_SECONDS)
    return [] if await _rest(proxy) else [f"I8: still writing: {proxy.seen[-3:]}"]


async def _ended(trial: Trial, play: Play, story: Story, proxy: Proxy) -> list[str]:
    """Waits for the end of the story, and checks that it is one."""
    found = []
    watch = trial.watch
    await play.wait("the end of the story", story.end)
    await play.wait("MLflow has the whole ledger", lambda state: not watch.end(state))
    rests = await _rest(proxy)
    while proxy.holds_back():
        await proxy.delivered()
        rests = await _rest(proxy)
    if not rests:
        found.append(f"I8: still writing: {proxy.seen[-3:]}")
    state = await play.wait("it stays so", story.end, 5.0)
    return found + watch.end(state) + trial.containers.strangers(state)


async def _repaired(trial: Trial, play: Play, story: Story, proxy: Proxy) -> list[str]:
    """I7: what takes effect now, long after its sender's end, is found within a poll."""
    before = proxy.writes + 1  # its own
    await proxy.release()
    state = await asyncio.to_thread(trial.world.state)
    found = []
    whole = story.end(state) and not trial.watch.end(state)
    if not whole and not await proxy.writes_beyond(before, NOTICED_SECONDS):
        late = [asked.name for asked in proxy.late]
        found.append(f"I7: {late} was not noticed within {NOTICED_SECONDS} s")
    return found + await _ended(trial, play, story, proxy)


async def _rest(proxy: Proxy) -> bool:
    """Waits until nothing was written for a while. False: it never stopped."""
    end = time.monotonic() + REST_PATIENCE
    while time.monotonic() < end:
        before = proxy.writes
        await asyncio.sleep(REST_SECONDS)
        if proxy.writes == before:
            return True
    return False
