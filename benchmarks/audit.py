"""What the API server itself wrote down of requests: who, what, when. Counts and times that the
operator has no say in.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


class _User(msgspec.Struct):
    username: str = ""


class _Object(msgspec.Struct):
    resource: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class _Response(msgspec.Struct):
    code: int = 0


class Request(msgspec.Struct, rename="camel"):
    """One answered request. Times are of the API server's wall clock."""

    verb: str
    user: _User
    request_received_timestamp: datetime
    stage_timestamp: datetime
    object_ref: _Object = msgspec.field(default_factory=_Object)
    response_status: _Response = msgspec.field(default_factory=_Response)

    @property
    def kind(self) -> str:
        """Like `update modelpromotions/status`."""
        parts = (self.object_ref.resource, self.object_ref.subresource)
        return f"{self.verb} {'/'.join(part for part in parts if part)}"

    @property
    def writes(self) -> bool:
        return self.verb in WRITES

    @property
    def answered_at(self) -> float:
        """Seconds since 1970."""
        return self.stage_timestamp.timestamp()


def policy(operator: str) -> str:
    """An audit policy: every request of the user `operator`, and the writes of all others."""
    return f"""\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  users: ["{operator}"]
- level: None
  verbs: [get, list, watch]
- level: Metadata
"""


class AuditLog:
    """The log file of one API server, read from wherever a measure began."""

    def __init__(self, path: Path, operator: str) -> None:
        self._path, self._operator = path, operator
        self._decoder = msgspec.json.Decoder(Request)

    def mark(self) -> int:
        """Where the log ends now."""
        return self._path.stat().st_size

    def since(self, mark: int) -> Iterator[Request]:
        """The requests that were written down after `mark`."""
        with self._path.open("rb") as log:
            log.seek(mark)
            for line in log:
                if line.endswith(b"\n"):
                    yield self._decoder.decode(line)

    def of_operator(self, mark: int) -> list[Request]:
        """The operator's own since then."""
        return [each for each in self.since(mark) if each.user.username == self._operator]

    def writes_of_operator(self, mark: int) -> Counter[str]:
        """How many of each kind, the Lease left out."""
        found = (r for r in self.of_operator(mark) if r.writes)
        return Counter(r.kind for r in found if r.object_ref.resource != "leases")

    def writes_of_others(self, mark: int) -> Counter[str]:
        """How many of each kind everybody else wrote."""
        others = (r for r in self.since(mark) if r.writes and r.user.username != self._operator)
        return Counter(f"{r.user.username}: {r.kind}" for r in others)
