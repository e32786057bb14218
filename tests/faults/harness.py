"""One trial: a story, played against real servers, with at most one call broken.

The operator is a process of its own that is killed by SIGKILL. Its Lease is deleted with it, so
that the next one need not wait for it to run out: nothing of a dead process writes any more, and
what the network still holds is the fault DELAYED.
"""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.calls import Asked, Call
from tests.faults.invariants import Watch
from tests.faults.proxy import Fault, Proxy, Servers
from tests.faults.stories import Play, Story, describe
from tests.faults.world import Cluster, World
from tests.integration.operator.conftest import Registry

ROOT = Path(__file__).parents[2]
REST_SECONDS = 3.0


@dataclass
class Outcome:
    """What a trial showed. No `violations`: everything held."""

    calls: tuple[Call, ...] = ()
    fired: bool = False
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    log: str = ""

    @property
    def word(self) -> str:
        if self.violations:
            return "violated"
        return "held" if self.fired else "did not fire"


class Operator:
    """`podium-operator` behind the proxy, for one namespace."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster, self._namespace, self._folder = cluster, namespace, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._replacing = False
        self.log = folder / "log"

    def start(self, server: str) -> None:
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(server)))
        command = [sys.executable, "-m", "podium.runtime.main", "--namespace", self._namespace]
        command += ["--health-port", "0", "--metrics-port", "0", "--workers", "2"]
        env = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": str(ROOT / "operator")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def replace(self, server: str) -> None:
        """SIGKILL; then a new process, which need not wait for the Lease of the dead one."""
        self._replacing = True
        self.kill()
        name = "leases/podium-operator"
        root = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/{name}"
        self._cluster.call("DELETE", root)
        self.start(server)
        self._replacing = False

    def check(self) -> None:
        ended = self._process is not None and self._process.poll() is not None
        if ended and not self._replacing:
            raise AssertionError("the operator ended by itself")


def run(
    servers: Servers, story: Story, at: Call | None = None, fault: Fault | None = None
) -> Outcome:
    """Plays `story`. Without `at` it only records."""
    began = time.monotonic()
    outcome = Outcome()
    cluster = servers.cluster
    world = World(cluster, Registry(servers.mlflow), f"faults-{secrets.token_hex(4)}")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podium-faults-")))
        _make(world)
        stack.callback(cluster.call, "DELETE", f"/api/v1/namespaces/{world.namespace}")
        operator = Operator(cluster, world.namespace, folder)
        watch = Watch(world, story)

        async def kill() -> None:
            await asyncio.to_thread(operator.replace, proxy.kubernetes)

        async def wrote(asked: Asked) -> None:
            await asyncio.to_thread(watch.wrote, asked)

        proxy = Proxy(servers, kill=kill, wrote=wrote, at=at, fault=fault)
        stack.enter_context(proxy)
        _make_registry(world, proxy.mlflow)
        operator.start(proxy.kubernetes)
        stack.callback(operator.kill)
        play = Play(world, operator.check)
        outcome.violations += asyncio.run(_play(play, story, watch, proxy))
        outcome.violations += watch.violations
        outcome.calls, outcome.fired = tuple(proxy.seen), proxy.fired
        outcome.log = operator.log.read_text(errors="replace")
        if "Traceback" in outcome.log:
            outcome.violations.append("the operator's log has a traceback")
    outcome.seconds = time.monotonic() - began
    return outcome


async def _play(play: Play, story: Story, watch: Watch, proxy: Proxy) -> list[str]:
    """What was violated in the end; what was on the way, `watch` has."""
    found = []
    try:
        await story.given(play)
        await _rest(proxy)
        watch.begin()
        proxy.arm()
        await story.drive(play)
        await play.wait("the end of the story", story.end)
        await play.wait("MLflow has the whole ledger", lambda state: not watch.end(state))
        if not await _rest(proxy, seconds=30.0):
            found.append(f"I8: still writing: {proxy.seen[-3:]}")
        state = await play.wait("it stays so", story.end, 5.0)
        found += watch.end(state)
    except AssertionError as error:
        found.append(f"I5: {error}; {describe(play.world.state())}")
    return found


async def _rest(proxy: Proxy, seconds: float = 20.0) -> bool:
    """Waits until nothing was written for a while. False: it never stopped."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = proxy.writes
        await asyncio.sleep(REST_SECONDS)
        if proxy.writes == before:
            return True
    return False


def _make(world: World) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": world.namespace}}
    world.cluster.call("POST", "/api/v1/namespaces", body)
    world.registry.create(world.model)


def _make_registry(world: World, uri: str) -> None:
    spec = {"trackingURI": uri, "pollInterval": "1s"}
    kind = {"apiVersion": "podium.dev/v1alpha1", "kind": "ModelRegistry"}
    world.apply("modelregistries", {**kind, "metadata": {"name": "mlflow"}, "spec": spec})


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "tester", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "proxy", "user": "tester"}}],
        "current-context": "it",
    }
