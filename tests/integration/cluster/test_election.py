"""Two replicas stand for election on a real API server; it dies and comes back."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from podium.cluster import (
    ApiConnection,
    ApiLeaseStore,
    KubernetesClient,
    LeaderElection,
    NotLeader,
    PodiumKind,
    load_access,
)
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster


@pytest.fixture
async def connections(control_cluster: Kubectl) -> AsyncIterator[list[ApiConnection]]:
    access = await load_access(str(control_cluster.kubeconfig))
    opened = [ApiConnection(access) for _ in range(2)]
    yield opened
    for one in opened:
        await one.close()


def stand(connection: ApiConnection, namespace: str, name: str) -> LeaderElection:
    return LeaderElection(ApiLeaseStore(connection, namespace, "podium"), identity=name)


async def led(election: LeaderElection, within: float) -> float:
    started = time.monotonic()
    async with asyncio.timeout(within):
        await election.wait_for_leadership()
    return time.monotonic() - started


async def test_a_killed_leader_is_followed_within_15_seconds(
    connections: list[ApiConnection], kubectl: Kubectl, namespace: str
) -> None:
    first, second = (
        stand(one, namespace, name) for one, name in zip(connections, "ab", strict=True)
    )
    running = asyncio.create_task(first.run())
    await led(first, 5)
    kubectl("label", "lease", "podium", "somebody=else")
    following = asyncio.create_task(second.run())
    await asyncio.sleep(5)
    assert first.is_leader
    assert not second.is_leader
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await led(second, 15) > 8
    lease = kubectl.get("lease", "podium")
    assert lease["spec"]["holderIdentity"] == "b"
    assert lease["spec"]["leaseTransitions"] == 1
    assert lease["metadata"]["labels"] == {"somebody": "else"}
    await second.stop()
    await following
    released = kubectl.get("lease", "podium")["spec"]
    assert released.get("holderIdentity", "") == ""
    third = stand(connections[0], namespace, "c")
    standing = asyncio.create_task(third.run())
    assert await led(third, 3) < 3
    await third.stop()
    await standing


PAUSED = textwrap.dedent(
    """
    import asyncio, sys, time
    from podium.cluster import ApiConnection, ApiLeaseStore, LeaderElection, load_access

    async def main(kubeconfig, namespace):
        connection = ApiConnection(await load_access(kubeconfig))
        store = ApiLeaseStore(connection, namespace, "podium")
        election = LeaderElection(store, identity="sleeper", lease_seconds=3, renew_seconds=0.5)
        asyncio.create_task(election.run())
        await election.wait_for_leadership()
        print("leads", flush=True)
        last = time.monotonic()
        while True:
            # No await between waking and asking: nothing can have renewed meanwhile.
            slept = time.monotonic() - last > 2
            if slept:
                print("woke", election.is_leader, flush=True)
            last = time.monotonic()
            await asyncio.sleep(0.01)

    asyncio.run(main(*sys.argv[1:]))
    """
)


async def test_a_paused_leader_never_believes_that_it_leads(
    connections: list[ApiConnection],
    control_cluster: Kubectl,
    namespace: str,
    kubectl: Kubectl,
    tmp_path: Path,
) -> None:
    program = tmp_path / "sleeper.py"
    program.write_text(PAUSED)
    sleeper = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        str(control_cluster.kubeconfig),
        namespace,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "operator"},
    )
    assert sleeper.stdout is not None
    try:
        assert await asyncio.wait_for(sleeper.stdout.readline(), 20) == b"leads\n"
        second = stand(connections[0], namespace, "b")
        standing = asyncio.create_task(second.run())
        await asyncio.sleep(0.5)
        sleeper.send_signal(signal.SIGSTOP)
        await led(second, 6)
        sleeper.send_signal(signal.SIGCONT)
        assert await asyncio.wait_for(sleeper.stdout.readline(), 10) == b"woke False\n"
        await asyncio.sleep(2)
        assert second.is_leader
        assert kubectl.get("lease", "podium")["spec"]["holderIdentity"] == "b"
        await second.stop()
        await standing
    finally:
        sleeper.kill()
        await sleeper.wait()


async def test_a_write_without_the_lease_does_not_reach_the_server(
    connections: list[ApiConnection], kubectl: Kubectl, namespace: str, promotion: dict[str, object]
) -> None:
    election = stand(connections[0], namespace, "a")
    client = KubernetesClient(connections[1], fence=election.fence)
    found = await client.get_promotion(namespace, "churn")
    assert found is not None
    with pytest.raises(NotLeader):
        await client.write_status(
            PodiumKind.PROMOTIONS,
            namespace,
            "churn",
            uid=kubectl.get("mp", "churn")["metadata"]["uid"],
            resource_version=kubectl.get("mp", "churn")["metadata"]["resourceVersion"],
            status={"observedGeneration": 1},
        )
    assert "status" not in kubectl.get("mp", "churn")
