"""Pods of a real API server that fail in the ways that simulated nodes can make them fail."""

import asyncio
from collections.abc import Callable

import pytest

from podium.api.promotion import DeploymentRef, Target
from podium.cluster import KubernetesClient
from podium.engine.observation import PodState
from podium.targets import observe
from tests.integration.cluster.conftest import DEPLOYMENT
from tests.kubectl import Kubectl

pytestmark = pytest.mark.cluster

TARGET = Target(name="api", deployment=DeploymentRef(name="churn"))

CASES: dict[str, Callable[[PodState], bool]] = {
    "crash": lambda pod: pod.failed and pod.started and pod.restarts > 0 and not pod.disrupted,
    "not-ready": lambda pod: pod.started and not pod.ready and not pod.failed and not pod.trouble,
    "image-pull": lambda pod: not pod.started and "ImagePullBackOff" in (pod.trouble or ""),
    "evicted": lambda pod: pod.disrupted and not pod.failed,
}


@pytest.mark.parametrize("fault", CASES)
async def test_a_fault_is_seen_for_what_it_is(
    client: KubernetesClient, kubectl: Kubectl, namespace: str, fault: str
) -> None:
    faulty = DEPLOYMENT.replace(
        "metadata: {labels: {app: churn}}",
        f"metadata: {{labels: {{app: churn}}, annotations: {{podium.dev/kwok-fault: {fault}}}}}",
    ).replace("replicas: 2", "replicas: 1")
    kubectl("apply", "-f", "-", stdin=faulty)
    pods: tuple[PodState, ...] = ()
    for _ in range(60):
        found = await client.get_deployment(namespace, "churn")
        assert found is not None
        raw = await client.list_pods(namespace, found["spec"]["selector"])  # type: ignore[index]
        pods = observe(TARGET, found, raw, False).pods or ()
        if any(CASES[fault](pod) for pod in pods):
            return
        await asyncio.sleep(0.5)
    pytest.fail(f"{fault} was never seen; last: {pods}")


async def test_readiness_that_is_lost_later_is_seen(
    client: KubernetesClient, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    kubectl("rollout", "status", "deployment/churn", "--timeout=60s", timeout=70)
    await asyncio.sleep(1.1)  # condition times have whole seconds
    kubectl("annotate", "pods", "-l", "app=churn", "podium.dev/kwok-fault=not-ready")
    for _ in range(40):
        found = await client.get_deployment(namespace, "churn")
        assert found is not None
        raw = await client.list_pods(namespace, found["spec"]["selector"])  # type: ignore[index]
        pods = observe(TARGET, found, raw, False).pods or ()
        if pods and all(pod.ready_lost_at is not None for pod in pods):
            assert not any(pod.ready or pod.disrupted for pod in pods)
            return
        await asyncio.sleep(0.5)
    pytest.fail(f"the loss was never seen; last: {pods}")
