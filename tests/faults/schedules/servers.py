"""Both servers as models, their controllers, and the hands and eyes of those who tell the story.

Knows no replica: what a replica asks comes through `network`.
"""

import asyncio
import contextvars
import email.message
import json
import random
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.faults.calls import System
from tests.faults.containers import Containers
from tests.faults.schedules.loop import START
from tests.faults.world import Cluster, Refused, State, World
from tests.integration.operator.conftest import Registry
from tests.models.http import Answered, Asked, query_of
from tests.models.kinds import kind_of
from tests.models.kubernetes import ApiServer
from tests.models.mlflow import Mlflow
from tests.models.workloads import Workloads

EPOCH = datetime(2026, 1, 1, 12, tzinfo=UTC)
_USER = {"User-Agent": "kubectl/v1.36.3"}


class Servers:
    """`changed` waits for the next write of whomever; `revision` counts them."""

    def __init__(self, seed: str) -> None:
        rng = random.Random(f"{seed} servers")
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self.api = ApiServer(self.now, rng)
        self.mlflow = Mlflow(self.now)
        self._workloads = Workloads(self.api, rng)
        self._due: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._told = 0
        self._containers: Containers | None = None
        self.revision = 0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time() - START)

    def begin(self, system: System, asked: Asked) -> Callable[[], Answered]:
        """The request up to its writes; calling what is returned does those."""
        if system is System.KUBERNETES:
            return lambda: self._touching(asked, self.api.answer(asked))
        commit = self.mlflow.begin(asked)
        return lambda: self._touching(asked, commit())

    def _touching(self, asked: Asked, answer: Answered) -> Answered:
        if asked.method != "GET":
            # Controllers look at their own objects only: most writes are of status and Leases.
            self.touched("/deployments" in asked.path or "/pods" in asked.path)
        return answer

    def containers(self, world: World, of: Callable[[str], str]) -> Containers:
        """What the pods of that world's Deployments load from here on. `of` names their aliases."""

        def at(alias: str) -> str | None:
            aliases = world.registry.model(world.model).get("aliases", [])
            return next((one["version"] for one in aliases if one["alias"] == alias), None)

        self._containers = Containers(at, of)
        return self._containers

    def compact(self) -> None:
        """Watches that were not told everything yet must list anew."""
        self.api.compact(self.api.storage.revision)

    async def changed(self) -> None:
        waiting = self._loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def touched(self, workloads: bool) -> None:
        """Something was written, or may have been."""
        self.revision += 1
        revision = self.api.storage.revision
        if revision != self._told:
            self._told = revision
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            if workloads:
                self._step_at(self._loop.time())

    def _step_at(self, when: float) -> None:
        if self._due is not None:
            if not self._due.cancelled() and self._due.when() <= when:
                return
            self._due.cancel()
        self._due = self._loop.call_at(when, self._step, context=self._context)

    def _step(self) -> None:
        self._due = None
        self._workloads.step(self.now())
        if self._containers is not None:
            for _, pod in self.api.storage.all(kind_of("pods")):
                self._containers.see(pod.content)
        upcoming = self._workloads.next_at(self.now())
        self.touched(True)
        if upcoming is not None:
            self._step_at(START + (upcoming - EPOCH).total_seconds())


class _Hands(Cluster):
    """The administrator of the model."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        where, _, query = path.partition("?")
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind, **_USER}
        asked = Asked(method, where, query_of(query), headers, content)
        answer = self._servers.begin(System.KUBERNETES, asked)()
        if answer.status == 404:
            return None
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status}: {answer.body.decode()}")
        return json.loads(answer.body)


class _User(Registry):
    """A user's program that speaks to MLflow."""

    def __init__(self, servers: Servers) -> None:
        super().__init__("http://mlflow:5000")
        self._servers = servers
        self.accuracies: dict[str, float] = {}

    def register(self, model: str, **metrics: float) -> str:
        version = super().register(model, **metrics)
        self.accuracies[version] = metrics["accuracy"]
        return version

    def call(self, verb: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        content = json.dumps(body).encode() if body is not None else b""
        where = f"/api/2.0/mlflow/{path}"
        asked = Asked(verb, where, query, {"Content-Type": "application/json"}, content)
        answer = self._servers.begin(System.MLFLOW, asked)()
        if answer.status >= 300:
            message, headers = answer.body.decode(), email.message.Message()
            raise urllib.error.HTTPError(where, answer.status, message, headers, None)
        return json.loads(answer.body or b"{}")


class SimulatedWorld(World):
    """`World`, whose state is looked up and not asked for."""

    def __init__(self, servers: Servers, namespace: str) -> None:
        user = _User(servers)
        super().__init__(_Hands(servers), user, namespace)
        self._servers = servers
        self.accuracies = user.accuracies  # of every version that there ever was
        self._known: tuple[int, str, State] | None = None

    def state(self, promotion: str = "p") -> State:
        known = self._known
        if known is not None and known[:2] == (self._servers.revision, promotion):
            return known[2]
        state = State(
            promotion=dict(self._objects("modelpromotions")).get(promotion, {}),
            deployments=dict(self._objects("deployments")),
            pods=tuple(pod for _, pod in self._objects("pods")),
            model=self.registry.model(self.model),
            versions=self.registry.versions(self.model),
        )
        self._known = (self._servers.revision, promotion, state)
        return state

    def _objects(self, plural: str) -> list[tuple[str, dict[str, Any]]]:
        found = self._servers.api.storage.all(kind_of(plural), self.namespace)
        return [(where[1], stored.content) for where, stored in found]
