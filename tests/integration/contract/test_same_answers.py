"""The same random requests to the model and to the real server: the same answers.

PODIUM_CONTRACT_SEEDS=N plays N sequences of each kind instead of a few.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.contract.conftest import namespace_of
from tests.integration.contract.steps import Played, Step, kubernetes_steps, mlflow_steps
from tests.integration.contract.transport import (
    Api,
    ModelApiServer,
    ModelMlflow,
    RealApiServer,
    RealServer,
    Registry,
)

SEEDS = range(int(os.environ.get("PODIUM_CONTRACT_SEEDS", "3")))
STEPS = 150


@pytest.fixture
def apis(real_api_server: RealApiServer) -> Iterator[tuple[Api, Api]]:
    with namespace_of(Api(ModelApiServer())) as model, namespace_of(Api(real_api_server)) as real:
        yield model, real


@pytest.mark.cluster
@pytest.mark.parametrize("seed", SEEDS)
def test_kubernetes_answers_the_same(apis: tuple[Api, Api], seed: int) -> None:
    played = [(api, Played(api.namespace)) for api in apis]
    done: list[Step] = []
    for step in kubernetes_steps(seed, STEPS):
        done.append(step)
        model, real = (_to_kubernetes(api, each, step) for api, each in played)
        assert model == real, _story(done, model, real)


def _to_kubernetes(api: Api, played: Played, step: Step) -> tuple[int, Any]:
    path = step.path.replace("NAMESPACE", api.namespace)
    body = played.filled(step.body)
    got = api.ask(step.method, path, body, step.content_type, **dict(step.query))
    played.saw(step, got)
    return played.masked(step, got)


@pytest.mark.mlflow
@pytest.mark.parametrize("seed", SEEDS)
def test_mlflow_answers_the_same(real_mlflow: RealServer, seed: int) -> None:
    played = [(Registry(server), Played()) for server in (ModelMlflow(), real_mlflow)]
    played[0][0].model = played[1][0].model
    done: list[Step] = []
    for step in mlflow_steps(seed, STEPS):
        done.append(step)
        model, real = (_to_mlflow(registry, each, step) for registry, each in played)
        assert model == real, _story(done, model, real)


def _to_mlflow(registry: Registry, played: Played, step: Step) -> tuple[int, Any]:
    sent = json.loads(json.dumps(step.body).replace("MODEL", registry.model))
    return played.masked(step, registry.ask(step.method, step.path, sent))


def _story(done: list[Step], model: Any, real: Any) -> str:
    """What was asked of that object, and where the answers part."""
    last = done[-1]
    told = [
        f"{step.method} {step.path} {json.dumps(dict(step.query))} {json.dumps(step.body)}"
        for step in done
        if step.what == last.what
    ]
    differences = "\n".join(_differences(model, real, ""))
    return f"after {len(done)} steps:\n" + "\n".join(told[-12:]) + f"\n{differences}"


def _differences(model: Any, real: Any, path: str) -> Iterator[str]:
    if isinstance(model, dict) and isinstance(real, dict):
        for key in sorted(model.keys() | real.keys()):
            absent = "(absent)"
            yield from _differences(model.get(key, absent), real.get(key, absent), f"{path}.{key}")
    elif isinstance(model, (list, tuple)) and isinstance(real, (list, tuple)):
        if len(model) != len(real):
            yield f"{path}: model {json.dumps(model)}\n  real {json.dumps(real)}"
            return
        for number, (one, other) in enumerate(zip(model, real, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif model != real:
        yield f"{path}: model {json.dumps(model)}\n  real {json.dumps(real)}"
