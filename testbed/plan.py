"""What a cluster is: size, addresses, ports and tokens, decided once and kept on disk.

A later `up` starts dead components again from the same plan, so addresses and data stay.
"""

import json
import secrets
import socket
from dataclasses import asdict, dataclass
from enum import Enum

from testbed.errors import TestbedError
from testbed.layout import ClusterDir

LOOPBACK = "127.0.0.1"
BRIDGE_IP = "10.88.0.1"
POD_RANGE = "10.88.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
DNS_IP = "10.96.0.10"


class Size(Enum):
    """How much of Kubernetes is real."""

    CONTROL = "control"  # control plane, simulated nodes; no root
    NODE = "node"  # control plane, one real node with real pods; root on Linux
    KIND = "kind"  # a whole cluster made by kind, where Docker is present


class Ports(Enum):
    """What each port of the plan is for; the value is its place in the list."""

    ETCD = 0
    ETCD_PEER = 1
    API = 2
    KWOK = 3
    KUBELET = 4
    KUBELET_HEALTH = 5
    PROXY_HEALTH = 6
    PROXY_METRICS = 7
    DNS = 8
    DNS_HEALTH = 9


@dataclass(frozen=True)
class Plan:
    """The fixed facts of one cluster."""

    size: Size
    host: str
    token: str
    ports: tuple[int, ...]
    simulated_nodes: int

    def port(self, what: Ports) -> int:
        return self.ports[what.value]

    @property
    def server(self) -> str:
        return f"https://{self.host}:{self.port(Ports.API)}"

    @property
    def etcd(self) -> str:
        return f"http://{LOOPBACK}:{self.port(Ports.ETCD)}"


def make(size: Size, simulated_nodes: int) -> Plan:
    """A plan with ports that are free now and a fresh token."""
    host = LOOPBACK if size is Size.CONTROL else BRIDGE_IP
    return Plan(
        size=size,
        host=host,
        token=secrets.token_urlsafe(32),
        ports=_free_ports(len(Ports)),
        simulated_nodes=simulated_nodes if size is Size.CONTROL else 0,
    )


def save(where: ClusterDir, plan: Plan) -> None:
    where.root.mkdir(parents=True, exist_ok=True)
    where.root.chmod(0o700)
    fresh = where.plan.with_suffix(".new")
    fresh.write_text(json.dumps({**asdict(plan), "size": plan.size.value}))
    fresh.replace(where.plan)


def load(where: ClusterDir) -> Plan | None:
    """The plan on disk, or None when there is no such cluster."""
    try:
        kept = json.loads(where.plan.read_text())
    except FileNotFoundError:
        return None
    if len(kept["ports"]) != len(Ports):
        raise TestbedError(
            f"cluster {where.name} was made by another version of the test bed; "
            f"run: python -m testbed down --name {where.name}"
        )
    return Plan(**{**kept, "size": Size(kept["size"]), "ports": tuple(kept["ports"])})


def _free_ports(count: int) -> tuple[int, ...]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((LOOPBACK, 0))
        return tuple(each.getsockname()[1] for each in held)
    finally:
        for each in held:
            each.close()
