"""MLflow servers for this folder's tests, started side by side, once per session."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from podium.registry import Credentials, RegistryClient
from testbed.mlflow import Backend, MlflowServer, mlflow_environment

ADMIN = ("admin", "a-long-password-1")


@dataclass(frozen=True)
class Kind:
    """One kind of server, and what its probe must find."""

    name: str
    version: str
    backend: Backend = Backend.SQLITE
    installed: bool = False
    able: frozenset[str] = field(default_factory=frozenset)


CURRENT = frozenset(
    {"aliases", "stages", "webhooks", "name_in", "versions_name_in", "logged_models"}
)
KINDS = (
    Kind("3.17-sqlite", "3.17.2", installed=True, able=CURRENT),
    Kind("3.17-postgresql", "3.17.2", Backend.POSTGRESQL, installed=True, able=CURRENT),
    Kind("2.22", "2.22.x", able=frozenset({"aliases", "stages"})),
    Kind("2.2", "2.2.2", able=frozenset({"stages"})),
)


class Servers:
    """Starts each server the first time a test wants it, and those likely wanted next."""

    def __init__(self, stack: contextlib.ExitStack, pool: ThreadPoolExecutor) -> None:
        self._stack = stack
        self._pool = pool
        self._started: dict[str, Future[MlflowServer]] = {}

    def start(self, name: str) -> Future[MlflowServer]:
        """The server of that kind, or with authentication for `auth`, perhaps not up yet."""
        if name not in self._started:
            kind = next((kind for kind in KINDS if kind.name == name), None)
            self._started[name] = (
                self._pool.submit(self._start, kind)
                if kind
                else self._pool.submit(self._start_with_authentication)
            )
        return self._started[name]

    def get(self, name: str) -> MlflowServer:
        """The running server of that kind."""
        return self.start(name).result()

    def _start(self, kind: Kind) -> MlflowServer:
        if kind.installed:
            return self._enter(MlflowServer(backend=kind.backend))
        return self._enter(MlflowServer(python=mlflow_environment(kind.version)))

    def _start_with_authentication(self) -> MlflowServer:
        python = mlflow_environment("3.17.2", extras=("auth",))
        return self._enter(MlflowServer(python=python, admin=ADMIN))

    def _enter(self, server: MlflowServer) -> MlflowServer:
        self._stack.callback(server.close)
        return server.__enter__()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    # Two at a time: a server's start is one core's work for about ten seconds. The pool ends
    # first, so that a server that is still starting is ended too.
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(max_workers=2) as pool:
        started = Servers(stack, pool)
        ids = " ".join(item.nodeid for item in request.session.items)
        for kind in KINDS:
            if f"[{kind.name}" in ids:
                started.start(kind.name)
        yield started


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server(servers: Servers, kind: Kind) -> MlflowServer:
    return servers.get(kind.name)


@pytest.fixture
async def client(server: MlflowServer) -> AsyncIterator[RegistryClient]:
    async with contextlib.aclosing(open_client(server.uri)) as opened:
        yield opened


@pytest.fixture
def name() -> str:
    """A model name of this test's own."""
    return f"model-{secrets.token_hex(4)}"


class ClosingClient(RegistryClient):
    """A client that `aclosing` can end."""

    async def aclose(self) -> None:
        await self.close()


def open_client(
    uri: str,
    *,
    credentials: Credentials | None = None,
    workspace: str | None = None,
    request_timeout: float = 20.0,
) -> ClosingClient:
    """A client without a rate limit that a test could run into."""

    async def read() -> Credentials | None:
        return credentials

    return ClosingClient(
        tracking_uri=uri,
        workspace=workspace,
        credentials=read,
        ca_pem=None,
        request_timeout=request_timeout,
        rate_limit_per_second=10_000,
    )
