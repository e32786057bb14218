"""Two requests to MLflow at once: what can come of them, and that the strange outcomes do.

The real server is asked by two threads, again and again; the model takes the four steps of both
requests in every order. Each outcome of the real one must be one that the model has too.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable

import pytest

from tests.integration.contract.test_mlflow import stages, transition
from tests.integration.contract.transport import Json, ModelMlflow, RealServer, Registry
from tests.models.http import Answered, Asked

TRIES = 150
Outcome = str
Setup = Callable[[Registry], tuple[Asked, Asked]]
Look = Callable[[Registry], Outcome]


def asked(method: str, path: str, sent: Json) -> Asked:
    headers = {"Content-Type": "application/json"}
    return Asked(method, f"/api/2.0/mlflow/{path}", {}, headers, json.dumps(sent).encode())


def outcomes_of_model(prepare: Setup, look: Look) -> set[Outcome]:
    """Every order of the steps of two requests, each of which has two."""
    found = set()
    for order in set(itertools.permutations((0, 0, 1, 1))):
        server = ModelMlflow()
        registry = Registry(server)
        requests = prepare(registry)
        steps: dict[int, Callable[[], Answered]] = {}
        for who in order:
            if who in steps:
                steps[who]()
            else:
                steps[who] = server.server.begin(requests[who])
        found.add(look(registry))
    return found


def outcomes_of_real(
    servers: tuple[RealServer, RealServer], prepare: Setup, look: Look, until: Outcome
) -> set[Outcome]:
    """Tried until the strange one was seen."""
    found: set[Outcome] = set()
    for _ in range(TRIES):
        registry = Registry(servers[0])
        requests = prepare(registry)
        both = threading.Barrier(2)

        def send(
            who: int, requests: tuple[Asked, Asked] = requests, both: threading.Barrier = both
        ) -> None:
            both.wait()
            servers[who].ask(requests[who])

        threads = [threading.Thread(target=send, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found.add(look(registry))
        if until in found:
            break
    return found


def two_to_production(registry: Registry) -> tuple[Asked, Asked]:
    registry.create(versions=2)
    path = "model-versions/transition-stage"
    first, second = (transition(registry, each, "Production", archive=True) for each in "12")
    return asked("POST", path, first), asked("POST", path, second)


def stages_of(registry: Registry) -> Outcome:
    return json.dumps(stages(registry))


def alias_and_deletion(registry: Registry) -> tuple[Asked, Asked]:
    registry.create(versions=2)
    alias = {"name": registry.model, "alias": "champion", "version": "2"}
    version = {"name": registry.model, "version": "2"}
    return (
        asked("POST", "registered-models/alias", alias),
        asked("DELETE", "model-versions/delete", version),
    )


def alias_of(registry: Registry) -> Outcome:
    """The alias, and what a read by it says."""
    sent = {"name": registry.model, "alias": "champion"}
    got = registry.ask("GET", "registered-models/alias", sent)
    return json.dumps([registry.aliases(), got.status])


def two_aliases(registry: Registry) -> tuple[Asked, Asked]:
    registry.create(versions=2)
    first, second = (
        {"name": registry.model, "alias": "champion", "version": each} for each in "12"
    )
    path = "registered-models/alias"
    return asked("POST", path, first), asked("POST", path, second)


@pytest.mark.mlflow
@pytest.mark.parametrize(
    ("prepare", "look", "strange"),
    [
        (two_to_production, stages_of, '{"1": "Production", "2": "Production"}'),
        (alias_and_deletion, alias_of, '[{"champion": "2"}, 404]'),
        (two_aliases, alias_of, '[{"champion": "1"}, 200]'),
    ],
    ids=["two versions in Production", "an alias that dangles", "the last writer wins"],
)
def test_a_race_ends_as_in_the_model(
    two_connections: tuple[RealServer, RealServer], prepare: Setup, look: Look, strange: Outcome
) -> None:
    of_model = outcomes_of_model(prepare, look)
    assert strange in of_model
    of_real = outcomes_of_real(two_connections, prepare, look, strange)
    assert of_real <= of_model
    assert strange in of_real, f"not in {TRIES} tries: {of_real}"
