"""What lies between real replicas and servers does what it says. No servers but a small one on
loopback."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from tests.faults.calls import System
from tests.faults.process import SEAT_HEADER
from tests.faults.relay import Servers
from tests.faults.schedules import real
from tests.faults.schedules import wire as wires
from tests.faults.schedules.network import Break, Breaking, Outage, Sort
from tests.faults.schedules.real import RealReplica
from tests.faults.schedules.watching import Bad
from tests.faults.schedules.wire import Judge, Seat, Wire

ALIAS = "/api/2.0/mlflow/registered-models/alias"
GET = "/api/2.0/mlflow/registered-models/get"
DEPLOYMENT = "/apis/apps/v1/namespaces/n/deployments/api"
DEPLOYMENTS = "/apis/apps/v1/namespaces/n/deployments"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/n/leases/podium-operator"


@dataclass
class Scene:
    """Two replicas, `a` and `b`; `did` is what was asked of whom and in which order."""

    wire: Wire
    session: aiohttp.ClientSession
    did: list[str]
    seats: dict[str, Seat]
    events: "asyncio.Queue[dict[str, Any]]" = field(default_factory=asyncio.Queue)

    async def ask(self, method: str, path: str, body: Any = None, who: str = "a") -> int | None:
        """The number of the answer, or its status; None: none came."""
        base = self.wire.mlflow if "/mlflow/" in path else self.wire.kubernetes
        headers = {"User-Agent": "podium-operator", SEAT_HEADER: f"{who}1"}
        try:
            async with self.session.request(
                method, base + path, json=body, headers=headers
            ) as answer:
                return answer.status if answer.status >= 400 else (await answer.json())["number"]
        except (aiohttp.ClientError, json.JSONDecodeError):
            return None

    async def set_alias(self, who: str = "a") -> int | None:
        return await self.ask("POST", ALIAS, {"version": "2"}, who)


@contextlib.asynccontextmanager
async def scene(breaks: dict[tuple[Sort, int], Breaking] | None = None) -> AsyncIterator[Scene]:
    did: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        there: list[Scene] = []

        async def upstream(request: web.BaseRequest) -> web.StreamResponse:
            if request.rel_url.query.get("watch"):
                stream = web.StreamResponse()
                await stream.prepare(request)
                while True:
                    line = json.dumps(await there[0].events.get())
                    await stream.write(line.encode() + b"\n")
            body = json.loads(await request.read() or b"{}")
            did.append(f"{request.method} {request.path.rpartition('/')[2]}")
            holder = {"holderIdentity": body.get("holder")}
            return web.json_response({"number": len(did), "spec": holder})

        runner = web.ServerRunner(web.Server(upstream), shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        uri = f"http://127.0.0.1:{runner.addresses[0][1]}"
        wire = Wire(Servers(cast(Any, SimpleNamespace(server=uri, tls=None)), "", uri))

        def kill(seat: Seat) -> None:
            did.append(f"kill {seat.name}")
            seat.dead = True

        wire.judge = Judge(
            sends=lambda who, asked, late: did.append(f"{who.name} sends{', late' * late}"),
            wrote=lambda who, asked, late: did.append(f"{who.name} wrote"),
            kill=kill,
            freeze=lambda seat, seconds: did.append(f"freeze {seat.name} {seconds}"),
            note=lambda _: None,
        )
        await stack.enter_async_context(wire)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        session._retry_connection = False
        seats = {
            name: Seat(name, f"{name}1", Bad(armed=True), lambda: None, lambda: None)
            for name in "ab"
        }
        wire.seats = {seat.identity: seat for seat in seats.values()}
        wire.breaks, wire.armed = breaks or {}, True
        there.append(Scene(wire, session, did, seats))
        yield there[0]


WROTE = ["a sends", "POST alias", "a wrote"]
LATE = ["a sends, late", "POST alias", "a wrote"]


@pytest.mark.parametrize(
    ("how", "answer", "did"),
    [
        (Break.KILLED_BEFORE, None, ["kill a"]),
        (Break.KILLED_AFTER, None, [*WROTE, "kill a"]),
        (Break.DELAYED, None, ["kill a", *LATE]),
        (Break.LATE, None, LATE),
        (Break.LOST, None, WROTE),
        (Break.HANGS, None, WROTE),
        (Break.BROKEN, None, WROTE),
        (Break.THROTTLED, 429, []),
        (Break.ERROR, 500, []),
        (Break.FROZEN, 3, ["freeze a 0.01", *LATE]),
        (Break.FROZEN_AFTER, 3, ["freeze a 0.01", *WROTE]),
        (Break.CONFLICT, 2, WROTE),  # MLflow knows none
        (Break.STALE, 2, WROTE),  # of reads only
    ],
)
async def test_a_broken_write(
    monkeypatch: pytest.MonkeyPatch, how: Break, answer: int | None, did: list[str]
) -> None:
    monkeypatch.setattr(wires, "UNHEARD_SECONDS", 0.05)
    monkeypatch.setattr(wires, "DELAYED_MOST_SECONDS", 0.05)
    async with scene({(Sort.WRITE, 1): Breaking(how, 0.01)}) as there:
        assert await there.set_alias() == answer
        assert there.did == did
        assert bool(there.wire.fired) == (how not in (Break.CONFLICT, Break.STALE))
        before = len(there.did)
        assert await there.set_alias("b") is not None
        assert there.did[before:] == ["b sends", "POST alias", "b wrote"], (
            "only the first is broken"
        )


async def test_what_a_dead_process_sent_takes_effect_after_another_wrote() -> None:
    async with scene({(Sort.WRITE, 1): Breaking(Break.DELAYED, 0.0)}) as there:
        held = asyncio.create_task(there.set_alias())
        await _until(lambda: there.seats["a"].dead)
        assert await there.ask("PATCH", DEPLOYMENT, {}, "b") is not None
        assert await held is None
        assert there.did[1:] == ["b sends", "PATCH api", "b wrote", *LATE]


async def test_a_read_is_answered_as_the_time_before() -> None:
    async with scene({(Sort.READ, 2): Breaking(Break.STALE, 0.0)}) as there:
        assert [await there.ask("GET", GET) for _ in range(3)] == [2, 2, 5]
        assert there.wire.arrived[System.MLFLOW] == 2
        assert there.did.count("a sends") == 3, "it has asked all the same"


async def test_the_lease_names_its_holder_and_is_counted_by_itself() -> None:
    async with scene({(Sort.LEASE, 2): Breaking(Break.ERROR, 0.0)}) as there:
        assert await there.ask("PUT", LEASE, {"holder": "a1_7f"}) == 1
        assert there.wire.holder == "a1"
        assert await there.ask("PUT", LEASE, {"holder": "b1_7f"}, "b") == 500
        assert (there.wire.holder, there.wire.writes) == ("a1", 0)
        await there.ask("PUT", LEASE, {"holder": ""})
        assert there.wire.holder == "", "released, which is not the same as never held"


async def test_what_is_cut_off_goes_on_when_the_line_is_whole() -> None:
    async with scene() as there:
        there.wire.cuts = {("a", System.MLFLOW)}
        sent = asyncio.create_task(there.set_alias())
        assert await there.set_alias("b") is not None
        assert await there.ask("PATCH", DEPLOYMENT, {}) is not None, "the other server is there"
        assert not sent.done()
        there.wire.cuts = set()
        assert await sent is not None
        assert there.did[-3:] == LATE


@pytest.mark.parametrize(
    ("how", "answer"), [(Outage.REFUSED, None), (Outage.UNAVAILABLE, 503), (Outage.SILENT, None)]
)
async def test_a_server_is_away(how: Outage, answer: int | None) -> None:
    async with scene() as there:
        there.wire.outages = {System.MLFLOW: how}
        sent = asyncio.create_task(there.set_alias())
        await asyncio.sleep(0.1)
        assert sent.done() == (how is not Outage.SILENT)
        there.wire.outages = {}
        status = await sent
        assert (status, there.did) == (answer, [])
        assert await there.set_alias() is not None


async def test_watches_are_told_late_twice_never_and_that_all_is_gone() -> None:
    async with scene() as there:
        bad = there.seats["a"].bad
        bad.dropped.add(("deployments", 1))
        bad.twice.add(("deployments", 2))
        headers = {SEAT_HEADER: "a1"}
        url = f"{there.wire.kubernetes}{DEPLOYMENTS}?watch=true"
        async with there.session.get(url, headers=headers) as watch:

            async def told() -> Any:
                return json.loads(await asyncio.wait_for(watch.content.readline(), 5.0))

            for name in ("one", "two", "three"):
                there.events.put_nowait({"type": "ADDED", "object": name})
            assert [(await told())["object"] for _ in range(3)] == ["two", "two", "three"]
            bad.lag["deployments"] = 0.3
            began = asyncio.get_running_loop().time()
            there.events.put_nowait({"type": "MODIFIED", "object": "four"})
            assert (await told())["object"] == "four"
            assert asyncio.get_running_loop().time() - began >= 0.3
            await there.wire.compact()
            assert (await told())["object"]["code"] == 410


async def test_watches_end_when_the_server_goes_away() -> None:
    async with scene() as there:
        url = f"{there.wire.kubernetes}{DEPLOYMENTS}?watch=true"
        async with there.session.get(url, headers={SEAT_HEADER: "a1"}) as watch:
            there.wire.outages = {System.KUBERNETES: Outage.REFUSED}
            with contextlib.suppress(aiohttp.ClientError):
                assert not await asyncio.wait_for(watch.content.readline(), 5.0)


@dataclass
class Process:
    """Of an operator, that ends when a test says so."""

    seat: str
    ended: bool = False
    code: int | None = 0

    def pause(self) -> None:
        pass

    resume = pause

    def kill(self) -> None:
        self.ended = True

    def stop(self, _: float) -> int | None:
        self.ended = True
        return self.code


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("is killed", []),
        ("is told to stop", []),
        ("ends before it is killed", ["a1 ended by itself"]),
        ("stops with an error", ["a1 was told to stop and ended with 1"]),
    ],
)
async def test_a_replica_that_ends_otherwise_than_it_should_is_a_violation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, found: list[str]
) -> None:
    violations: list[str] = []
    async with scene() as there:
        process = Process("a1", code=1 if "error" in how else 0)
        monkeypatch.setattr(real, "Operator", lambda *_: process)
        wire, note = there.wire, lambda _: None
        replica = RealReplica("a", "n", wire, tmp_path, None, note, violations.append)
        replica.start()
        assert (replica.runs, replica.ended) == (True, False)
        if "before" in how:
            process.ended = True
            assert replica.ended
        await (replica.stop() if "stop" in how else replica.kill())
        assert (replica.runs, replica.ended, violations) == (False, False, found)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
