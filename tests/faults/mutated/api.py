"""The API server as its administrator, with its refusals as they are."""

import json
from dataclasses import dataclass
from typing import Any

import urllib3

from tests.faults.relay import Servers
from tests.faults.world import Cluster

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def message(self) -> str:
        return str(self.body.get("message", self.body))

    @property
    def causes(self) -> list[tuple[str, str]]:
        """(field, sentence) of each thing that was refused."""
        found = (self.body.get("details") or {}).get("causes") or []
        return [(str(c.get("field", "")), str(c.get("message", ""))) for c in found]


class Api(Cluster):
    """Raises OSError while the server is away."""

    def __init__(self, servers: Servers) -> None:
        super().__init__(servers.access.server, servers.access.tls, servers.authorization)

    def send(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> Answer:
        try:
            answer = self._pool.request(
                method,
                self._server + path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": kind, "Authorization": self._authorization},
            )
            return Answer(answer.status, json.loads(answer.data or b"{}"))
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise OSError(f"{method} {path}: {error}") from error

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        answer = self.send(method, path, body, kind)
        if answer.status == 404:
            return None
        assert answer.ok, f"{method} {path}: {answer.message}"
        return answer.body
