"""The API server dies and comes back under a client with kept connections."""

import asyncio
from typing import Any

import pytest

from podium.cluster import ApiUnavailable, KubernetesClient
from testbed.cluster import Cluster

pytestmark = pytest.mark.cluster


async def test_a_read_survives_a_restart(
    client: KubernetesClient, promotion: dict[str, Any], bed: Cluster
) -> None:
    namespace = promotion["metadata"]["namespace"]
    assert await client.get_promotion(namespace, "churn") is not None
    await asyncio.to_thread(bed.stop, "kube-apiserver", grace=0)
    try:
        with pytest.raises(ApiUnavailable, match="cannot be reached"):
            await client.get_promotion(namespace, "churn")
    finally:
        await asyncio.to_thread(bed.start, "kube-apiserver")
    for _ in range(60):
        try:
            if await client.get_promotion(namespace, "churn") is not None:
                break
        except ApiUnavailable:
            await asyncio.sleep(0.5)
    found = await client.get_promotion(namespace, "churn")
    assert found is not None
    assert found["metadata"]["uid"] == promotion["metadata"]["uid"]  # type: ignore[index]
