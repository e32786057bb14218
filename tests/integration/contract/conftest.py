"""Both kinds of each server, as parameters: every contract test runs against model and real."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from testbed.mlflow import MlflowServer
from tests.integration.contract.transport import (
    Api,
    ModelApiServer,
    ModelMlflow,
    RealApiServer,
    RealServer,
    Registry,
)
from tests.kubectl import Kubectl

BOTH = ("model", pytest.param("real", marks=pytest.mark.cluster))
BOTH_MLFLOWS = ("model", pytest.param("real", marks=pytest.mark.mlflow))


@contextlib.contextmanager
def namespace_of(api: Api) -> Iterator[Api]:
    made = api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": api.namespace}})
    assert made.status == 201, made
    try:
        yield api
    finally:
        api.delete(f"/api/v1/namespaces/{api.namespace}")


@pytest.fixture(scope="session")
def real_api_server(control_cluster: Kubectl) -> Iterator[RealApiServer]:
    with contextlib.closing(RealApiServer(control_cluster.kubeconfig)) as server:
        yield server


@pytest.fixture(params=BOTH)
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """An API server with a namespace of the test's own: the model, then the real one."""
    server = (
        request.getfixturevalue("real_api_server") if request.param == "real" else ModelApiServer()
    )
    with namespace_of(Api(server)) as made:
        yield made


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[MlflowServer]:
    with MlflowServer() as server:
        yield server


@pytest.fixture(scope="session")
def real_mlflow(mlflow_server: MlflowServer) -> Iterator[RealServer]:
    with contextlib.closing(RealServer(mlflow_server.uri)) as connection:
        yield connection


@pytest.fixture
def two_connections(mlflow_server: MlflowServer) -> Iterator[tuple[RealServer, RealServer]]:
    with (
        contextlib.closing(RealServer(mlflow_server.uri)) as one,
        contextlib.closing(RealServer(mlflow_server.uri)) as other,
    ):
        yield one, other


@pytest.fixture(params=BOTH_MLFLOWS)
def registry(request: pytest.FixtureRequest) -> Registry:
    """MLflow with a model name of the test's own: the model, then the real one."""
    real = request.param == "real"
    return Registry(request.getfixturevalue("real_mlflow") if real else ModelMlflow())
