"""How kopf gets into the cluster: with our access, read anew when it was refused; and what the
start of the operator does not load for it."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from podium.runtime import shell
from podium.runtime.hints import Hints
from podium.runtime.shell import _Sessions

ROOT = Path(__file__).parents[3]


class Access:
    tls = None
    server_name = None
    proxy = None

    def __init__(self, server: str = "http://10.0.0.1") -> None:
        self.server = server
        self.asked: list[bool] = []

    async def authorization(self, *, again: bool = False) -> str | None:
        self.asked.append(again)
        return f"Bearer token-{len(self.asked)}"


async def test_a_second_login_reads_the_token_again_and_all_sessions_are_closed() -> None:
    access = Access()
    sessions = _Sessions(access, lambda *_: None)
    made = [(await sessions.login()).aiohttp_session for _ in range(2)]
    assert access.asked == [False, True]
    assert [each.headers["Authorization"] for each in made] == ["Bearer token-1", "Bearer token-2"]
    await sessions.close()
    assert all(session.closed for session in made)


async def test_kopf_lists_nothing_and_a_watch_after_its_list_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As kopf asks: a LIST, its watch, that watch again; after a 410 a LIST and a watch."""
    monkeypatch.setattr(shell, "REOPEN_SECONDS", 0.0)
    asked: list[str | None] = []
    opened: list[tuple[str, bool]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("fieldSelector"))
        return web.Response(status=int(request.query.get("answer", "200")))

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    sessions = _Sessions(Access(), lambda *watch: opened.append(watch))
    async with TestServer(app) as server:
        session = (await sessions.login()).aiohttp_session
        listed, watched = "/p?limit=500", "/p?watch=true&resourceVersion=5"
        refused = f"{watched}&answer=503"
        for path in (listed, "/d?limit=500", refused, watched, watched, listed, watched):
            (await session.get(server.make_url(path))).release()
        await sessions.close()
    nobody = f"metadata.name={shell.NOBODY}"
    assert asked == [nobody, nobody, None, None, None, nobody, None]
    assert opened == [("/p", True), ("/p", False), ("/p", True)]


async def test_kopf_remembers_no_object() -> None:
    memories = shell._Memories()
    body = {"metadata": {"uid": "a"}}
    first = await memories.recall(body, noticed_by_listing=True, memobase=None)
    assert first.noticed_by_listing
    assert await memories.recall(body) is not first
    assert not list(memories.iter_all_memories())


async def test_watches_that_end_at_once_and_a_token_that_stays_expired_are_no_hot_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kopf itself pauses for neither."""
    monkeypatch.setattr(shell, "REOPEN_SECONDS", 0.2)
    monkeypatch.setattr(shell, "LOGIN_SECONDS", 0.2)
    asked: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.Response:
        asked[request.path_qs] += 1
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    sessions = _Sessions(Access(), lambda *_: None)
    async with TestServer(app) as server:
        session = (await sessions.login()).aiohttp_session

        async def ask(path: str) -> None:
            while True:
                (await session.get(server.make_url(path))).release()

        async def log_in() -> None:
            while True:
                await sessions.login()
                asked["login"] += 1

        paths = ("/p?watch=true", "/d?watch=true", "/p")
        tasks = [asyncio.create_task(each) for each in (*map(ask, paths), log_in())]
        await asyncio.sleep(1.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await sessions.close()
    assert 5 <= asked["/p?watch=true"] <= 7 and 5 <= asked["/d?watch=true"] <= 7
    assert 4 <= asked["login"] <= 6
    assert asked["/p"] > 20, "what is no watch waits for nothing"


async def test_a_session_closed_while_a_watch_waits_its_turn_is_told_as_kopf_knows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """kopf closes it for the first watch that is answered 401, and logs in again for the others.
    aiohttp's AssertionError, which came instead, ended the process."""
    monkeypatch.setattr(shell, "REOPEN_SECONDS", 0.2)
    sessions = _Sessions(Access(), lambda *_: None)

    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/p", answer)
    async with TestServer(app) as server:
        session = (await sessions.login()).aiohttp_session
        url = server.make_url("/p?watch=true")
        (await session.get(url)).release()
        again = asyncio.ensure_future(session.get(url))
        await asyncio.sleep(0.05)
        await session.close()
        with pytest.raises(RuntimeError, match="Session is closed"):
            await again


RESOURCES = {
    "/api/v1": ("namespaces", "events"),  # kopf looks for them
    "/apis/podium.dev/v1alpha1": ("modelpromotions", "promotiondecisions", "modelregistries"),
    "/apis/apps/v1": ("deployments",),
}


class ApiServer:
    """Empty lists, and watches that end when told to."""

    def __init__(self) -> None:
        self.watches: asyncio.Queue[tuple[str, asyncio.Future[bytes]]] = asyncio.Queue()
        self.app = web.Application()
        self.app.router.add_get("/{path:.*}", self._answer)

    async def opened(self) -> dict[str, "asyncio.Future[bytes]"]:
        """By resource: gives what the watch is told before it ends."""
        async with asyncio.timeout(10):
            return dict([await self.watches.get() for _ in range(4)])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api":
            return web.json_response({"versions": ["v1"]})
        if request.path == "/apis":
            return web.json_response({"groups": [_group("podium.dev/v1alpha1"), _group("apps/v1")]})
        if request.path in RESOURCES:
            named = [_resource(name) for name in RESOURCES[request.path]]
            return web.json_response({"resources": named})
        if request.query.get("watch") != "true":
            return web.json_response({"metadata": {"resourceVersion": "5"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        told = asyncio.get_running_loop().create_future()
        await self.watches.put((request.path.rpartition("/")[2], told))
        await response.write(await told)
        return response


def _group(name: str) -> dict[str, object]:
    group, _, version = name.partition("/")
    versions = [{"groupVersion": name, "version": version}]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _resource(name: str) -> dict[str, object]:
    verbs = ["list", "watch", "get", "patch"]
    kind = name.title()
    return {"name": name, "singularName": "", "kind": kind, "namespaced": True, "verbs": verbs}


async def _one_watch_fails() -> None:
    """One watch is told an error while the others wait to be opened again."""
    api = ApiServer()
    async with TestServer(api.app) as server:
        address = str(server.make_url("")).rstrip("/")
        hints = cast(Hints, SimpleNamespace())
        stop, ready = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(
            shell.watch(Access(address), hints, lambda *_: None, (), stop, ready)
        )
        for told in (await api.opened()).values():
            told.set_result(b"")
        again = await api.opened()
        error = {"type": "ERROR", "object": {"kind": "Status", "code": 500}}
        again.pop("modelpromotions").set_result(json.dumps(error).encode() + b"\n")
        for told in again.values():
            told.set_result(b"")
        await asyncio.wait({watching}, timeout=15)
        print(watching.exception() if watching.done() else "it watches on", flush=True)
        os._exit(0)  # as the operator does: some of kopf's tasks never end


def test_it_ends_when_a_watch_fails_for_good_though_kopf_has_tasks_that_do_not() -> None:
    """kopf.operator ended the task for credentials, waited for the other watches, which waited
    for credentials, and so did not end."""
    program = f"import asyncio, {__name__} as here; asyncio.run(here._one_watch_fails())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("Error in the watch-stream"), done.stdout + done.stderr


def test_a_start_does_not_load_the_official_client_and_leaves_it_loadable() -> None:
    program = (
        "import sys; import podium.runtime.main; print('kubernetes' in sys.modules); "
        "import kubernetes.aio.client; import kopf; print(kopf.on.event.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "kopf.on"]
