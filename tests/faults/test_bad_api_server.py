"""What an API server, or the way to it, does to watches: kopf's own faults (docs/testing.md).

Each case spoils something for a while. In it a version is registered and the promotion's spec is
changed, which only a watch tells. Afterwards, without a person, everything is as it must be:
nothing was lost or done twice, nothing was asked in a hot loop, and a new version is promoted.
`restarts`: the operator ends itself and a kubelet starts it again, which is meant so (crash-only).
The cases on the line run side by side; those that break the cluster come after them.
"""

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from tests.conftest import with_crds
from tests.faults.calls import System
from tests.faults.line import Answer, Line, Sent, lines
from tests.faults.relay import Servers
from tests.faults.replica import Replica
from tests.faults.scene import Promotions, all_ready, make_registry, namespace, new_world, until
from tests.faults.stories import API, BAD
from tests.faults.world import State
from tests.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(300)]
HOT = 8.0  # in a second: four watches, what is refused, and a LIST now and then


@dataclass
class Stage:
    """One operator on its line, and promotion `p` with version 1 as its champion."""

    line: Line
    replica: Replica
    promotions: Promotions

    def asked(self, since: float) -> list[Sent]:
        return [s for s in self.line.sent if s.at >= since and s.system is System.KUBERNETES]

    def restless(self, since: float) -> float:
        """Requests in a second that do no work: watches, LISTs, and what was refused."""
        idle = [
            s
            for s in self.asked(since)
            if s.watch or s.name.startswith("list") or (s.status or 0) >= 400
        ]
        return len(idle) / (time.time() - since)

    def moves(self, since: float) -> list[str]:
        """Where the operator moved the alias to."""
        moved = [s for s in self.line.sent if s.at >= since and s.took_effect]
        return [s.name.split()[-1] for s in moved if s.name.startswith("post registered-models/al")]

    async def change_spec(self) -> None:
        """What only a watch tells: MLflow's poll does not know of it."""
        world = self.promotions.world
        path, body = world.path("modelpromotions", "p"), {"spec": {"historyLimit": 7}}
        kind = "application/merge-patch+json"
        await asyncio.to_thread(world.cluster.call, "PATCH", path, body, kind)

    async def observed(self, seconds: float) -> None:
        def known(state: State) -> bool:
            generation = state.promotion["metadata"]["generation"]
            return bool(state.status.get("observedGeneration") == generation)

        await self.promotions.play.wait("the new spec is seen", known, seconds)

    async def promote(self) -> None:
        await self.promotions.register()
        await self.promotions.settle()


@contextlib.asynccontextmanager
async def stage(real: Servers, folder: Path, name: str, **spec: Any) -> AsyncIterator[Stage]:
    world = new_world(real, name)
    async with lines(real, "a") as (line,), namespace(world):
        made = Stage(line, Replica(line, world.namespace, folder), Promotions(world))
        await made.promotions.adopt(line, **spec)
        async with made.replica.kept():
            try:
                await made.promotions.settle()
                await all_ready([made.replica])
                yield made
            except AssertionError as error:
                raise AssertionError(f"{error}\n{made.replica.said()}") from error


# On the line

Spoil = Callable[[Stage], Coroutine[Any, Any, None]]


async def reset(at: Stage) -> None:
    for _ in range(4):
        await until("a watch is open again", lambda: at.line.watches)
        assert at.line.end_watches(reset=True)
        await asyncio.sleep(2)


async def end_at_once(at: Stage) -> None:
    """As a proxy does that takes a watch for a request that has been answered."""
    at.line.instead = lambda sent: Answer(200, b"") if sent.watch else None
    at.line.end_watches()
    await asyncio.sleep(10)


async def go_silent(at: Stage) -> None:
    assert at.line.mute_watches() == 4


def tell(code: int, *, raw: bytes | None = None) -> Spoil:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    line = raw or json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"

    async def spoil(at: Stage) -> None:
        assert at.line.end_watches(line) == 4
        await asyncio.sleep(5)

    return spoil


async def refuse_as_gone(at: Stage) -> None:
    """410 as the answer to the watch itself, until somebody LISTs."""
    began = time.time()

    def gone(sent: Sent) -> Answer | None:
        listed = any(
            s.path == sent.path and not s.watch and s.method == "GET" for s in at.asked(began)
        )
        return Answer(410) if sent.watch and not listed else None

    at.line.instead = gone
    at.line.end_watches()
    await asyncio.sleep(8)


def storm(status: int, *headers: tuple[str, str]) -> Spoil:
    async def spoil(at: Stage) -> None:
        at.line.instead = lambda sent: (
            Answer(status, headers=headers) if sent.system is System.KUBERNETES else None
        )
        at.line.end_watches()
        await asyncio.sleep(20)

    return spoil


async def expire_the_token(at: Stage) -> None:
    """Nothing but the new token is taken, and it is in the file ten seconds later."""

    def check(sent: Sent) -> Answer | None:
        mine = sent.system is System.KUBERNETES
        return Answer(401) if mine and sent.authorization != "Bearer second" else None

    at.line.instead = check
    at.line.end_watches()
    await asyncio.sleep(10)
    at.replica.token_file.write_text("second")
    await asyncio.sleep(5)


@dataclass(frozen=True)
class Case:
    name: str
    spoil: Spoil
    restarts: bool = False
    seen_within: float = 30.0  # seconds after the trouble; kopf looks again every 10
    at_rest: bool = False  # no version is registered meanwhile: nothing else wakes the promotion


CASES = [
    Case("reset", reset),
    Case("ended-at-once", end_at_once),
    Case("half-open", go_silent),
    # kopf wants an event or a bookmark within 70 s
    Case("half-open-at-rest", go_silent, seen_within=85.0, at_rest=True),
    Case("error-410", tell(410)),
    Case("answer-410", refuse_as_gone, restarts=True, seen_within=60.0),
    Case("error-500", tell(500), restarts=True, seen_within=60.0),
    Case("no-json", tell(0, raw=b"{garbage\n"), restarts=True, seen_within=60.0),
    Case("503", storm(503)),
    Case("429", storm(429, ("Retry-After", "1"))),
    Case("token-expired", expire_the_token),
]


@dataclass
class Outcome:
    error: str = ""
    restarts: int = 0
    per_second: float = 0.0
    seen: float = 0.0
    moves: list[str] = field(default_factory=list)
    log: str = field(default="", repr=False)


async def play(real: Servers, folder: Path, case: Case) -> Outcome:
    done = Outcome()
    try:
        async with stage(real, folder / case.name, f"bad-{case.name}") as at:
            await _play(at, case, done)
    except (AssertionError, OSError) as error:
        done.error = str(error)
    return done


async def _play(at: Stage, case: Case, done: Outcome) -> None:
    starts, began = at.replica.starts, time.time()
    trouble = asyncio.create_task(case.spoil(at))
    await asyncio.sleep(0.5)
    if not case.at_rest:
        await at.promotions.register()
    await at.change_spec()
    await trouble
    if case.name != "token-expired":
        at.line.instead = lambda _: None
    done.per_second = at.restless(began)
    over = time.time()
    await at.observed(case.seen_within)
    done.seen = time.time() - over
    if case.at_rest:
        await at.promotions.register()
    await at.promotions.settle()
    await at.promote()
    done.moves = at.moves(began)
    done.restarts = at.replica.starts - starts
    done.log = at.replica.said(2000)
    assert not await at.replica.not_alive()


@pytest.fixture(scope="module")
def outcomes(
    apart: Cluster, registry_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Outcome]]:
    folder = tmp_path_factory.mktemp("bad")

    async def all_of_them() -> list[Outcome]:
        real = await Servers.of(apart.kubeconfig, registry_server.uri)
        return await asyncio.gather(*(play(real, folder, case) for case in CASES))

    results = asyncio.run(all_of_them())
    yield {case.name: outcome for case, outcome in zip(CASES, results, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_comes_back_by_itself(outcomes: dict[str, Outcome], case: Case) -> None:
    done = outcomes[case.name]
    print(case.name, done)
    assert not done.error, done.error
    assert done.moves == ["2", "3"], "a move was lost or done twice"
    assert bool(done.restarts) == case.restarts and done.restarts <= 2, done.log
    assert done.per_second < HOT, "a hot loop"


# The whole cluster


async def test_the_api_server_is_killed_in_mid_attempt(
    apart: Cluster, registry_server: MlflowServer, tmp_path: Path
) -> None:
    real = await Servers.of(apart.kubeconfig, registry_server.uri)
    # The controllers' own watches back off for up to a minute.
    patient = {"progressDeadline": "3m"}
    async with stage(real, tmp_path / "it", "bad-restart", rollout=patient) as at:
        starts, began = at.replica.starts, time.time()
        await at.promotions.register()
        await asyncio.sleep(1.0)
        await asyncio.to_thread(apart.stop, "kube-apiserver", 0)
        await asyncio.sleep(14)  # longer than the Lease
        await asyncio.to_thread(apart.start, "kube-apiserver")
        await at.change_spec()
        await at.observed(30)
        await at.promotions.settle()
        await at.promote()
        assert at.moves(began) == ["2", "3"]
        assert at.replica.starts == starts
        assert at.restless(began) < HOT


async def test_etcd_is_restored_from_a_backup(
    apart: Cluster, registry_server: MlflowServer, tmp_path: Path
) -> None:
    """Status is older than the ledger in MLflow: what was promoted, rolled back and put into
    quarantine since is read back, and no move is made again."""
    real = await Servers.of(apart.kubeconfig, registry_server.uri)
    async with stage(real, tmp_path / "it", "bad-backup") as at:
        promotions = at.promotions
        await at.promote()
        _back_up(apart, tmp_path / "etcd")
        await promotions.play.deploy(fault="crash@3")
        await promotions.play.wait("the template is rolled out", promotions.right)
        await promotions.play.register(0.95)
        await promotions.play.wait("3 is in quarantine", lambda s: s.quarantined == {"3"})
        await promotions.play.wait("2 serves again", _two_is_back)
        moved, starts, began = at.moves(0.0), at.replica.starts, time.time()
        assert moved == ["2", "3", "2"]
        await asyncio.to_thread(_restore, apart, tmp_path / "etcd")
        state = await promotions.play.wait("status is read back", _two_is_back)
        assert at.replica.starts > starts, "it went on with what it remembered"
        assert at.moves(began) == [], "a move was made again"
        assert not promotions.watch.end(state)
        await promotions.play.register(BAD)
        await promotions.play.wait("4 is refused", lambda s: s.attempt.get("phase") == "Rejected")
        await promotions.play.register(0.95)
        promotions.versions = 5
        await promotions.play.wait("5 is champion", lambda s: s.alias == "5" and _served(s, "5"))
        assert at.moves(began) == ["5"]
        assert at.restless(began) < HOT


async def test_the_crds_are_removed_and_put_back(
    apart: Cluster, registry_server: MlflowServer, tmp_path: Path
) -> None:
    """All resources are gone with them; they are applied again as from Git."""
    real = await Servers.of(apart.kubeconfig, registry_server.uri)
    async with stage(real, tmp_path / "it", "bad-crds") as at:
        await at.promote()
        before, began = await at.promotions.state(), time.time()
        names = [f"{each}.podium.dev" for each in
                 ("modelpromotions", "modelregistries", "promotiondecisions")]  # fmt: skip
        await asyncio.to_thread(apart.kubectl, "delete", "crd", *names)
        await asyncio.sleep(12)
        assert at.restless(began) < HOT
        kubectl = Kubectl(apart.programs["kubectl"], apart.kubeconfig)
        await asyncio.to_thread(with_crds, kubectl)
        await make_registry(at.promotions.world, at.line)
        await at.promotions.play.promote()
        await at.promotions.settle(90)
        assert at.moves(began) == []
        after = await at.promotions.state()
        assert _generation(after) == _generation(before), "pods were restarted"
        await at.promote()
        assert at.moves(began) == ["3"]


def _two_is_back(state: State) -> bool:
    return state.alias == "2" and state.quarantined == {"3"} and _served(state, "2")


def _served(state: State, version: str) -> bool:
    champion = state.status.get("champion", {}).get("version")
    ready = state.condition("Ready").startswith("True")
    return ready and champion == version and state.serves(API, version)


def _generation(state: State) -> int:
    return int(state.deployments[API]["metadata"]["generation"])


def _back_up(cluster: Cluster, to: Path) -> None:
    """etcd's files at one moment."""
    pid = cluster.pid("etcd")
    assert pid is not None
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    try:
        shutil.copytree(cluster.where.root / "etcd", to)
    finally:
        process.send_signal(signal.SIGCONT)


def _restore(cluster: Cluster, backup: Path) -> None:
    """As every guide says: all that keeps what it saw is stopped first."""
    names = ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
    for name in names:
        cluster.stop(name, grace=0)
    shutil.rmtree(cluster.where.root / "etcd")
    shutil.copytree(backup, cluster.where.root / "etcd")
    for name in reversed(names):
        cluster.start(name)
    cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
