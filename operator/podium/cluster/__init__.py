"""The Kubernetes client: typed reads, server-side apply, status, events, leases."""

from podium.cluster.access import Access, AccessError, load_access
from podium.cluster.client import KubernetesClient, label_selector
from podium.cluster.connection import (
    READ_DEADLINE,
    WRITE_DEADLINE,
    ApiConnection,
    Fence,
    OnRequest,
)
from podium.cluster.election import LeaderElection, WentBackError, new_identity
from podium.cluster.errors import (
    AlreadyExists,
    AmbiguousWrite,
    ApiUnavailable,
    ClusterError,
    Conflict,
    FieldConflict,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    NotLeader,
    OwnedField,
    Unauthenticated,
)
from podium.cluster.lease import ApiLeaseStore, LeaseRecord, LeaseStore
from podium.cluster.resources import PodiumKind, Raw

__all__ = [
    "READ_DEADLINE",
    "WRITE_DEADLINE",
    "Access",
    "AccessError",
    "AlreadyExists",
    "AmbiguousWrite",
    "ApiConnection",
    "ApiLeaseStore",
    "ApiUnavailable",
    "ClusterError",
    "Conflict",
    "Fence",
    "FieldConflict",
    "Forbidden",
    "Invalid",
    "KubernetesClient",
    "LeaderElection",
    "LeaseRecord",
    "LeaseStore",
    "NamespaceTerminating",
    "NotFound",
    "NotLeader",
    "OnRequest",
    "OwnedField",
    "PodiumKind",
    "Raw",
    "Unauthenticated",
    "WentBackError",
    "label_selector",
    "load_access",
    "new_identity",
]
