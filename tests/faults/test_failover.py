"""A few failovers of each kind; `make failovers` runs a hundred (docs/testing.md)."""

import random

import pytest

from testbed.cluster import Cluster
from testbed.mlflow import MlflowServer
from tests.faults.failover import Kind, plan
from tests.faults.failovers import run_pairs, tables, wrong
from tests.faults.relay import Servers

pytestmark = [pytest.mark.cluster, pytest.mark.mlflow, pytest.mark.timeout(400)]
SEED = 4


async def test_only_the_holder_of_the_lease_writes(
    apart: Cluster, registry_server: MlflowServer
) -> None:
    real = await Servers.of(apart.kubeconfig, registry_server.uri)
    rng = random.Random(SEED)
    chosen = [plan(kind, rng) for _ in range(2) for kind in Kind]
    results = await run_pairs(real, chosen, pairs=3, seed=SEED)
    found = wrong(results)
    assert not found, "\n".join(found)
    assert sum(len(result.failovers) for result in results) == len(chosen)
    assert sum(result.writes for result in results) > 100
    assert tables(results)
