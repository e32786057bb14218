"""How kopf gets into the cluster: with our access, read anew when it was refused; and what the
start of the operator does not load for it."""

import asyncio
import subprocess
import sys
from collections import Counter

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from podium.runtime import shell
from podium.runtime.shell import _Sessions


class Access:
    server = "http://10.0.0.1"
    tls = None
    server_name = None
    proxy = None

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def authorization(self, *, again: bool = False) -> str | None:
        self.asked.append(again)
        return f"Bearer token-{len(self.asked)}"


async def test_a_second_login_reads_the_token_again_and_all_sessions_are_closed() -> None:
    access = Access()
    sessions = _Sessions(access, lambda _: None)
    made = [(await sessions.login()).aiohttp_session for _ in range(2)]
    assert access.asked == [False, True]
    assert [each.headers["Authorization"] for each in made] == ["Bearer token-1", "Bearer token-2"]
    await sessions.close()
    assert all(session.closed for session in made)


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
    sessions = _Sessions(Access(), lambda _: None)
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
    sessions = _Sessions(Access(), lambda _: None)

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


def test_a_start_does_not_load_the_official_client_and_leaves_it_loadable() -> None:
    program = (
        "import sys; import podium.runtime.main; print('kubernetes' in sys.modules); "
        "import kubernetes.aio.client; import kopf; print(kopf.on.event.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "kopf.on"]
