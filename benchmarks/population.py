"""Ten thousand teams' worth of models and promotions.

Each serves a champion already when Podium comes. Every fourth promotion has no candidate
selector: people move its alias in MLflow, and Podium adopts that. The others follow the newest
version. Each serves by one Deployment with its usual
size of a manifest; without replicas, since no pod is needed to see that it was changed, but for
those of `rollouts`, whose pods simulated nodes run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2

from benchmarks.kube import Kube, in_parallel
from testbed.postgres import PostgresServer

FIRST_VERSIONS = 3
ADOPT_EVERY = 4
ROLLING_REPLICAS = 2


@dataclass(frozen=True)
class Member:
    """One promotion, its model and its Deployment, which share a name."""

    name: str
    namespace: str
    adopts: bool
    replicas: int = 0

    @property
    def first_champion(self) -> str:
        return "1" if self.adopts else str(FIRST_VERSIONS)


def members(count: int, rolling: int, spaces: int) -> list[Member]:
    """`count` without pods in so many namespaces, each with a ModelRegistry; and `rolling` with
    pods in one more."""
    found = [
        Member(f"model-{i:05}", f"team-{i * spaces // count}", i % ADOPT_EVERY == 0)
        for i in range(count)
    ]
    return found + [
        Member(f"rolling-{i:05}", "rolling", False, ROLLING_REPLICAS) for i in range(rolling)
    ]


class Registry:
    """MLflow's tables. A row is what MLflow's own store would have written, only many at once."""

    def __init__(self, database: PostgresServer) -> None:
        uri = database.uri("mlflow").replace("+psycopg2", "")
        self._connection = psycopg2.connect(uri)
        self._connection.autocommit = True

    def close(self) -> None:
        self._connection.close()

    def fill(self, people: Sequence[Member]) -> None:
        """Each model with its first versions, and the alias as it was before Podium came."""
        names = [each.name for each in people]
        with self._connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO registered_models (name, creation_time, last_updated_time) "
                "SELECT name, 1700000000000, 1700000000000 FROM unnest(%s) AS name",
                (names,),
            )
            for version in range(1, FIRST_VERSIONS + 1):
                cursor.execute(_VERSION, (version, names))
            cursor.execute(
                "INSERT INTO registered_model_aliases (name, alias, version) "
                "SELECT name, 'champion', version FROM unnest(%s, %s::int[]) AS t (name, version)",
                (names, [int(each.first_champion) for each in people]),
            )

    def at_once(self, registered: Mapping[str, int], moved: Mapping[str, int]) -> None:
        """In one commit: a version of each of the one, and the alias of each of the others."""
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            for version in set(registered.values()):
                cursor.execute(_VERSION, (version, _with(registered, version)))
            for version in set(moved.values()):
                cursor.execute(
                    "UPDATE registered_model_aliases SET version = %s "
                    "WHERE alias = 'champion' AND name = ANY(%s)",
                    (version, _with(moved, version)),
                )
            cursor.execute("COMMIT")


def _with(versions: Mapping[str, int], version: int) -> list[str]:
    return [name for name, each in versions.items() if each == version]


_VERSION = """
INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage,
  source, run_id, status, user_id, description, run_link)
SELECT name, %s, 1700000000000, 1700000000000, 'None',
  's3://models/' || name || '/artifacts/model', md5(name), 'READY', 'ann', '', ''
FROM unnest(%s) AS name"""


async def fill_kubernetes(kube: Kube, people: Sequence[Member], mlflow: str, poll: float) -> None:
    """Namespaces, ModelRegistries, Deployments, then promotions."""
    for namespace in dict.fromkeys(each.namespace for each in people):
        await kube.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        await kube.send("POST", registries_path(namespace), _registry(mlflow, poll))
    await in_parallel(people, lambda m: kube.send("POST", deployments_path(m), _deployment(m)))
    await in_parallel(people, lambda m: kube.send("POST", promotions_path(m), _promotion(m)))


def registries_path(namespace: str) -> str:
    return f"/apis/podium.dev/v1alpha1/namespaces/{namespace}/modelregistries"


def promotions_path(member: Member) -> str:
    return f"/apis/podium.dev/v1alpha1/namespaces/{member.namespace}/modelpromotions"


def deployments_path(member: Member) -> str:
    return f"/apis/apps/v1/namespaces/{member.namespace}/deployments"


def by_kind(people: Sequence[Member]) -> tuple[list[Member], list[Member]]:
    """Those that adopt a moved alias, and those that follow the newest version; without pods."""
    still = [each for each in people if not each.replicas]
    return [each for each in still if each.adopts], [each for each in still if not each.adopts]


def spread(people: Sequence[Member], count: int) -> Iterator[Member]:
    """`count` of them from all over the list, so that no chunk of a poll has them all."""
    step = max(1, len(people) // max(1, count))
    yield from list(people[::step])[:count]


def _registry(mlflow: str, poll: float) -> dict[str, Any]:
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ModelRegistry",
        "metadata": {"name": "default"},
        "spec": {"trackingURI": mlflow, "pollInterval": f"{poll:g}s"},
    }


def _promotion(member: Member) -> dict[str, Any]:
    deployment = {"name": member.name, "container": "server"}
    spec: dict[str, Any] = {
        "model": member.name,
        "targets": [{"name": "api", "deployment": deployment}],
    }
    if not member.adopts:
        spec["candidate"] = {"latest": {}}
    return {
        "apiVersion": "podium.dev/v1alpha1",
        "kind": "ModelPromotion",
        "metadata": {"name": member.name, "labels": {"app.kubernetes.io/part-of": "scoring"}},
        "spec": spec,
    }


def _deployment(member: Member) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": member.name, "app.kubernetes.io/part-of": "scoring"}
    probe = {"httpGet": {"path": "/ping", "port": 8080}, "periodSeconds": 5}
    container = {
        "name": "server",
        "image": "images.example.com/serving:1.4.2",
        "args": ["mlflow", "models", "serve", "--port", "8080"],
        "env": [
            {"name": "MODEL_URI", "value": f"models:/{member.name}@champion"},
            {"name": "MLFLOW_TRACKING_URI", "value": "https://mlflow.example.com"},
            {"name": "WORKERS", "value": "4"},
        ],
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "readinessProbe": probe,
        "livenessProbe": {**probe, "periodSeconds": 20},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "scratch", "emptyDir": {}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": member.name, "labels": labels},
        "spec": {
            "replicas": member.replicas,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {"app.kubernetes.io/name": member.name}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
