"""How a contract test speaks to a server: the model in memory, or the real one over HTTP.

The same requests go to both. What differs is how time passes, and how far back history goes.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import secrets
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from podium.cluster import load_access
from tests.models.http import Answered, Asked, query_text
from tests.models.kubernetes import ApiServer, Gone
from tests.models.mlflow import Mlflow
from tests.models.workloads import Workloads

Json = dict[str, Any]
WATCH_SECONDS = 5


class GoneError(Exception):
    """A watch from before what the server remembers."""


class Server(Protocol):
    """One of the two kinds of servers, or both kinds of worlds that they stand in."""

    def ask(self, asked: Asked) -> Answered: ...

    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None: ...


class Watched(Server, Protocol):
    """An API server."""

    def changes(self, path: str, since: int, count: int) -> list[tuple[str, Json]]:
        """The first `count` of a watch from that resourceVersion. Raises GoneError."""

    def forgotten(self) -> int:
        """A resourceVersion that is too old to watch from."""


IDLE_SECONDS = 2.0  # uvicorn closes a connection that was idle for five


class RealServer:
    """A server behind an address, by one kept connection."""

    def __init__(
        self,
        address: str,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        url = urllib.parse.urlsplit(address)
        self._headers = dict(headers or {})
        self._open: Callable[[], http.client.HTTPConnection] = lambda: (
            http.client.HTTPSConnection(url.netloc, context=tls, timeout=30)
            if url.scheme == "https"
            else http.client.HTTPConnection(url.netloc, timeout=30)
        )
        self._connection = self._open()
        self._used_at = time.monotonic()

    def ask(self, asked: Asked) -> Answered:
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self._connection.close()  # the next request opens it again
        try:
            response = self._send(self._connection, asked)
            content = response.read()
        except Exception:
            self._connection.close()  # else each later request fails for this one
            raise
        self._used_at = time.monotonic()
        found = dict(response.getheaders())
        return Answered(response.status, content, response.getheader("Content-Type", ""), found)

    def _send(
        self, connection: http.client.HTTPConnection, asked: Asked
    ) -> http.client.HTTPResponse:
        query = query_text(asked.query)
        url = f"{asked.path}?{query}" if query else asked.path
        headers = {**self._headers, **asked.headers}
        connection.request(asked.method, url, asked.body or None, headers)
        return connection.getresponse()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self._connection.close()


class RealApiServer(RealServer):
    """The test bed's API server, as its administrator."""

    def __init__(self, kubeconfig: Path) -> None:
        access = asyncio.run(load_access(str(kubeconfig)))
        authorization = asyncio.run(access.authorization())
        super().__init__(
            access.server,
            access.tls,
            {"Authorization": authorization} if authorization else {},
        )

    def changes(self, path: str, since: int, count: int) -> list[tuple[str, Json]]:
        query = {
            "watch": "1",
            "resourceVersion": str(since),
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        connection = self._open()
        found: list[tuple[str, Json]] = []
        try:
            response = self._send(connection, Asked("GET", path, query))
            while len(found) < count:
                line = response.readline()
                if not line:
                    break
                event = json.loads(line)
                if event["type"] == "ERROR" and event["object"]["code"] == 410:
                    raise GoneError(event["object"]["message"])
                found.append((event["type"], event["object"]))
        finally:
            connection.close()
        return found

    def forgotten(self) -> int:
        return 1  # before the API server listed what its watches begin with


@dataclass
class Clock:
    """A time that passes only when it is told to."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


@dataclass
class ModelApiServer:
    """The model with its workloads."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.server = ApiServer(self.clock.now, random.Random(1))
        self._workloads = Workloads(self.server, random.Random(2))

    def ask(self, asked: Asked) -> Answered:
        return self.server.answer(asked)

    def now(self) -> datetime:
        return self.clock.time

    def sleep(self, seconds: float) -> None:
        end = self.clock.time + timedelta(seconds=seconds)
        while True:
            at = self._workloads.next_at(self.clock.time)
            if at is None or at > end:
                break
            self.clock.time = at
            self._workloads.step(at)
        self.clock.time = end

    def changes(self, path: str, since: int, count: int) -> list[tuple[str, Json]]:
        try:
            found = self.server.events_since(path, since)
        except Gone as error:
            raise GoneError(str(error)) from error
        return [(type_, content) for _, type_, content in found[:count]]

    def forgotten(self) -> int:
        self.server.compact(self.server.storage.revision)
        return 1


@dataclass
class ModelMlflow:
    """The model of MLflow. Each request takes a moment, as a real one does."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.server = Mlflow(self.clock.now)

    def ask(self, asked: Asked) -> Answered:
        self.clock.time += timedelta(milliseconds=5)
        return self.server.answer(asked)

    def now(self) -> datetime:
        return self.clock.time

    def sleep(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Got:
    """An answer's status and JSON."""

    status: int
    body: Json

    @property
    def metadata(self) -> Json:
        found: Json = self.body["metadata"]
        return found

    @property
    def version(self) -> str:
        return str(self.metadata["resourceVersion"])

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])

    @property
    def refusal(self) -> tuple[int, str, str]:
        """Status, reason and message of a metav1.Status."""
        assert self.body["kind"] == "Status", self.body
        assert self.body["code"] == self.status
        return self.status, self.body["reason"], self.body["message"]


PODIUM = "podium.dev/v1alpha1"


@dataclass
class Api:
    """An API server and a namespace of the test's own there."""

    server: Watched
    namespace: str = field(default_factory=lambda: f"test-{secrets.token_hex(4)}")

    def path(self, plural: str, name: str = "", group: str = PODIUM) -> str:
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        **query: str,
    ) -> Got:
        sent = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type, "User-Agent": "contract/1"}
        answer = self.server.ask(Asked(method, path, query, headers, sent))
        if "json" not in answer.content_type:
            return Got(answer.status, {"text": answer.body.decode()})
        return Got(answer.status, json.loads(answer.body))

    def get(self, path: str, **query: str) -> Got:
        return self.ask("GET", path, **query)

    def create(self, plural: str, body: Json, group: str = PODIUM, **query: str) -> Got:
        return self.ask("POST", self.path(plural, group=group), body, **query)

    def put(self, path: str, body: Json, **query: str) -> Got:
        return self.ask("PUT", path, body, **query)

    def merge(self, path: str, patch: Json, **query: str) -> Got:
        return self.ask("PATCH", path, patch, "application/merge-patch+json", **query)

    def apply(self, path: str, body: Json, manager: str, **query: str) -> Got:
        kind = "application/apply-patch+yaml"
        return self.ask("PATCH", path, body, kind, fieldManager=manager, **query)

    def delete(self, path: str, options: Json | None = None) -> Got:
        return self.ask("DELETE", path, options)

    def until(
        self, path: str, true: Callable[[Json], bool], seconds: float = 30, step: float = 0.25
    ) -> Json:
        """The object once that is true of it."""
        end = self.server.now() + timedelta(seconds=seconds)
        while True:
            found = self.get(path).body
            if true(found):
                return found
            assert self.server.now() < end, f"not within {seconds} s: {json.dumps(found)[:3000]}"
            self.server.sleep(step)


@dataclass
class Registry:
    """An MLflow, and a model name of the test's own there."""

    server: Server
    model: str = field(default_factory=lambda: f"model {secrets.token_hex(4)}")

    def ask(self, method: str, path: str, sent: Json | None = None) -> Got:
        """`sent` is the query of a GET, else the body. A path with a / at the front is whole."""
        full = path if path.startswith("/") else f"/api/2.0/mlflow/{path}"
        headers = {"Content-Type": "application/json"}
        if method == "GET":
            asked = Asked(method, full, dict(sent or {}), headers)
        else:
            asked = Asked(method, full, {}, headers, json.dumps(sent or {}).encode())
        answer = self.server.ask(asked)
        if "json" not in answer.content_type:
            return Got(answer.status, {"text": answer.body.decode()})
        return Got(answer.status, json.loads(answer.body))

    def done(self, method: str, path: str, sent: Json) -> Json:
        got = self.ask(method, path, sent)
        assert got.status == 200, got
        return got.body

    def create(self, versions: int = 0, model: str | None = None) -> None:
        self.done("POST", "registered-models/create", {"name": model or self.model})
        for _ in range(versions):
            self.version(model=model)

    def version(self, model: str | None = None, **more: Any) -> str:
        sent = {"name": model or self.model, "source": "s3://bucket/model", **more}
        return str(self.done("POST", "model-versions/create", sent)["model_version"]["version"])

    def read(self) -> Json:
        found: Json = self.done("GET", "registered-models/get", {"name": self.model})
        return dict(found["registered_model"])

    def read_version(self, number: str) -> Json:
        sent = {"name": self.model, "version": number}
        return dict(self.done("GET", "model-versions/get", sent)["model_version"])

    def aliases(self) -> dict[str, str]:
        return {each["alias"]: each["version"] for each in self.read().get("aliases", [])}

    def set_alias(self, alias: str, version: str) -> Got:
        sent = {"name": self.model, "alias": alias, "version": version}
        return self.ask("POST", "registered-models/alias", sent)

    def refused(self, method: str, path: str, sent: Json) -> tuple[int, str, str]:
        """Status, error code and message."""
        got = self.ask(method, path, sent)
        assert got.status >= 400, got
        return got.status, got.body["error_code"], got.body["message"]
