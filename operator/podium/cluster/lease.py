"""The Lease that says which replica leads: read, made and renewed with its resourceVersion.

Knows coordination.k8s.io/v1 and nothing about who should hold it: that is `election`.
"""

from dataclasses import dataclass
from typing import Protocol, cast

from podium.cluster import resources
from podium.cluster.connection import ApiConnection
from podium.cluster.errors import NotFound
from podium.cluster.request import Request, Verb
from podium.cluster.resources import Raw

LEASE_CALL_DEADLINE = 3.0  # seconds; three tries fit into one lease of 12 s


@dataclass(frozen=True)
class LeaseRecord:
    """The spec of a Lease. `version` is the resourceVersion that it was read at."""

    holder: str
    seconds: int
    renewed: str  # spec.renewTime, only compared for change, never with a clock
    acquired: str = ""
    transitions: int = 0
    version: str = ""


class LeaseStore(Protocol):
    """Where the record is kept; every write is guarded by the version that it follows."""

    async def read(self) -> LeaseRecord | None: ...

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Raises AlreadyExists (a Conflict)."""

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Writes it over the one of `record.version`. Raises Conflict when that is not it."""


class ApiLeaseStore:
    """One Lease object. Its writes ask no fence: they are what the fence rests on."""

    def __init__(self, connection: ApiConnection, namespace: str, name: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._name = name

    async def read(self) -> LeaseRecord | None:
        request = Request(Verb.GET, resources.LEASES, self._namespace, self._name)
        try:
            return _record(await self._connection.read(request, deadline=LEASE_CALL_DEADLINE))
        except NotFound:
            return None

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        request = Request(
            Verb.CREATE, resources.LEASES, self._namespace, body={**body, "spec": _spec(record)}
        )
        return await self._write(request)

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        # A merge patch leaves other people's labels and annotations alone.
        request = Request(
            Verb.PATCH,
            resources.LEASES,
            self._namespace,
            self._name,
            body={"metadata": {"resourceVersion": record.version}, "spec": _spec(record)},
            content_type="application/merge-patch+json",
        )
        return await self._write(request)

    async def _write(self, request: Request) -> LeaseRecord:
        return _record(
            await self._connection.write(request, fence=None, deadline=LEASE_CALL_DEADLINE)
        )


def older(version: str, than: str) -> bool:
    """Whether a resourceVersion came before another of the same kind of object. One etcd's only
    ever grow, also when an object is deleted and made again (KEP-5504)."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)


def _spec(record: LeaseRecord) -> Raw:
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.seconds,
        "acquireTime": record.acquired or None,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }


def _record(lease: Raw) -> LeaseRecord:
    spec = cast(Raw, lease.get("spec") or {})
    metadata = cast(Raw, lease["metadata"])
    return LeaseRecord(
        holder=str(spec.get("holderIdentity") or ""),
        seconds=cast(int, spec.get("leaseDurationSeconds") or 0),
        renewed=str(spec.get("renewTime") or ""),
        acquired=str(spec.get("acquireTime") or ""),
        transitions=cast(int, spec.get("leaseTransitions") or 0),
        version=str(metadata.get("resourceVersion") or ""),
    )
