"""A client of the test's API server that always leads, and objects to try it on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from podium.cluster import ApiConnection, KubernetesClient, load_access
from tests.kubectl import Kubectl


@pytest.fixture
async def connection(control_cluster: Kubectl) -> AsyncIterator[ApiConnection]:
    opened = ApiConnection(await load_access(str(control_cluster.kubeconfig)))
    yield opened
    await opened.close()


@pytest.fixture
async def client(connection: ApiConnection) -> KubernetesClient:
    return KubernetesClient(connection, fence=lambda _seconds: None, reporting_instance="podium-0")


PROMOTION = """
apiVersion: podium.dev/v1alpha1
kind: ModelPromotion
metadata: {name: churn}
spec:
  model: churn
  candidate: {latest: {}}
  targets:
  - name: api
    deployment: {name: churn, container: server}
"""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: churn}
spec:
  replicas: 2
  selector: {matchLabels: {app: churn}}
  template:
    metadata: {labels: {app: churn}}
    spec:
      containers:
      - name: server
        image: example.invalid/server:1
        env: [{name: LOG_LEVEL, value: info}]
"""


@pytest.fixture
def promotion(kubectl: Kubectl) -> dict[str, Any]:
    kubectl("apply", "-f", "-", stdin=PROMOTION)
    found: dict[str, Any] = kubectl.get("mp", "churn")
    return found


@pytest.fixture
def deployment(kubectl: Kubectl) -> dict[str, Any]:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT)
    found: dict[str, Any] = kubectl.get("deployment", "churn")
    return found
