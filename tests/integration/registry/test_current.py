"""What only the newest supported MLflow has: logged models, authentication, a real restart."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import pytest

from podium.registry import (
    Credentials,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    RegistryUnavailable,
    Unauthenticated,
)
from testbed.mlflow import MlflowServer
from tests.integration.registry.conftest import ADMIN, Servers, open_client
from tests.integration.registry.mlflow_api import MlflowApi

pytestmark = pytest.mark.mlflow

BACKENDS = ("3.17-sqlite", "3.17-postgresql")


@pytest.fixture(params=BACKENDS)
def server(request: pytest.FixtureRequest, servers: Servers) -> Iterator[MlflowServer]:
    yield servers.get(request.param)


def logged_model(server: MlflowServer, metrics: dict[str, float]) -> tuple[str, str]:
    """A logged model with metrics on a dataset, and the run that measured them."""
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput

    client = MlflowClient(server.uri)
    run_id = client.create_run("0").info.run_id
    model = client.create_logged_model("0", name="m", source_run_id=run_id, tags={"t": "1"})
    dataset = Dataset("holdout", "d1gest", "local", "{}")
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [])])
    for key, value in metrics.items():
        client.log_metric(
            run_id,
            key,
            value,
            timestamp=1000,
            step=3,
            model_id=model.model_id,
            dataset_name="holdout",
            dataset_digest="d1gest",
        )
    client.finalize_logged_model(model.model_id, "READY")
    return model.model_id, run_id


async def test_a_logged_models_metrics_are_what_was_logged(server: MlflowServer) -> None:
    logged = {"acc": 0.9, "zero": 0.0, "nan": math.nan, "inf": math.inf, "low": -math.inf}
    model_id, run_id = await asyncio.to_thread(logged_model, server, logged)
    client = open_client(server.uri)
    model = await client.get_logged_model(model_id)
    await client.close()
    assert model.source_run_id == run_id
    assert model.tags["t"] == "1"
    found = {metric.key: metric.value for metric in model.metrics}
    # MLflow itself answers 0.0 for the NaN.
    assert math.isnan(found.pop("nan"))
    assert found == {"acc": 0.9, "zero": 0.0, "inf": math.inf, "low": -math.inf}
    measured = next(metric for metric in model.metrics if metric.key == "acc")
    assert (measured.dataset_name, measured.dataset_digest) == ("holdout", "d1gest")
    assert (measured.step, measured.run_id) == (3, run_id)


async def test_a_versions_logged_model_is_found_through_copies(
    server: MlflowServer, name: str
) -> None:
    model_id, run_id = await asyncio.to_thread(logged_model, server, {"acc": 0.9})
    api = MlflowApi(server.uri)
    api.model(name)
    api.model(f"{name}-prod")
    api.version(name, f"models:/{model_id}", run_id, model_id)
    api.version(f"{name}-prod", f"models:/{name}/1", run_id)
    client = open_client(server.uri)
    copied = await client.get_version(f"{name}-prod", "1")
    found = await client.resolve_logged_model(copied)
    assert found is not None
    assert found.model_id == model_id
    await client.close()


async def test_a_model_tag_over_the_databases_limit_is_refused_or_kept_whole(
    server: MlflowServer, name: str
) -> None:
    MlflowApi(server.uri).model(name)
    client = open_client(server.uri)
    value = "x" * 5000
    await client.set_model_tag(name, "podium.dev/head/x", value)
    assert (await client.get_model(name)).tags["podium.dev/head/x"] == value
    with pytest.raises(InvalidRequest):
        await client.set_version_tag(name, "1", "k" * 300, "v")
    await client.close()


async def test_a_server_that_restarts_is_found_again(name: str) -> None:
    with MlflowServer() as own:
        MlflowApi(own.uri).model(name)
        client = open_client(own.uri)
        await client.get_model(name)
        await asyncio.to_thread(own.stop)
        with pytest.raises(RegistryUnavailable, match="cannot be reached"):
            await client.get_model(name)
        await asyncio.to_thread(own.start)
        assert (await client.get_model(name)).name == name
        await client.close()


async def test_credentials_are_checked_and_never_shown(servers: Servers, name: str) -> None:
    uri = (await asyncio.to_thread(servers.get, "auth")).uri
    right = Credentials(username=ADMIN[0], password=ADMIN[1])
    wrong = Credentials(username=ADMIN[0], password="s3cr3t")
    admin = open_client(uri, credentials=right)
    found = await admin.probe()
    assert found.aliases and found.stages and found.name_in and found.logged_models
    with pytest.raises(ModelNotFound):
        await admin.get_model(name)
    await admin.close()
    for credentials in (wrong, None):
        stranger = open_client(uri, credentials=credentials)
        with pytest.raises(Unauthenticated) as raised:
            await stranger.probe()
        assert "s3cr3t" not in str(raised.value)
        await stranger.close()


async def test_a_reader_may_not_move_an_alias(servers: Servers, name: str) -> None:
    server = await asyncio.to_thread(servers.get, "auth")
    await asyncio.to_thread(_a_model_and_a_reader, server.uri, name)
    reader = open_client(
        server.uri, credentials=Credentials(username=name, password="a-long-password-2")
    )
    assert await reader.get_alias(name, "champion") is None
    with pytest.raises(Forbidden, match="EDIT"):
        await reader.set_alias(name, "champion", "1")
    await reader.close()


def _a_model_and_a_reader(uri: str, name: str) -> None:
    import requests

    def post(path: str, **fields: str) -> None:
        answer = requests.post(f"{uri}/api/2.0/mlflow/{path}", json=fields, auth=ADMIN, timeout=30)
        answer.raise_for_status()

    post("registered-models/create", name=name)
    post("model-versions/create", name=name, source="s3://bucket/model")
    post("users/create", username=name, password="a-long-password-2")
