"""What is true in the two servers, asked directly: the harness' own eyes and hands."""

import json
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import urllib3

from tests.integration.operator.conftest import Registry


class Refused(AssertionError):  # noqa: N818
    """The API server did not do it. (A story that needs it cannot go on.)"""


# A LIST right after a restored backup is answered by 429: "storage is (re)initializing".
_AGAIN = urllib3.Retry(
    20,
    connect=False,
    read=False,
    redirect=False,
    other=False,
    status_forcelist=[429],
    raise_on_status=False,
)


class Cluster:
    """The API server as its administrator, without kubectl (a thousand trials ask often, over
    connections that are kept). May be used from several threads."""

    def __init__(self, server: str, tls: ssl.SSLContext | None, authorization: str) -> None:
        self._server, self._authorization = server, authorization
        self._pool = urllib3.PoolManager(maxsize=16, ssl_context=tls, retries=_AGAIN, timeout=20)

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """The answer; None for 404."""
        answer = self._pool.request(
            method,
            self._server + path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": kind, "Authorization": self._authorization},
        )
        if answer.status == 404:
            return None
        if answer.status >= 300:
            raise Refused(f"{method} {path}: {answer.status}: {answer.data.decode()}")
        return json.loads(answer.data)

    def apply(self, path: str, body: Any) -> Any:
        query = "?fieldManager=tester&force=true"
        return self.call("PATCH", path + query, body, "application/apply-patch+yaml")


@dataclass(frozen=True)
class State:
    """Both servers at about one time."""

    promotion: dict[str, Any]
    deployments: dict[str, dict[str, Any]]
    pods: tuple[dict[str, Any], ...]
    model: dict[str, Any]
    versions: dict[str, dict[str, Any]]
    others: tuple[dict[str, Any], ...] = ()  # promotions of the same model

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.promotion.get("status") or {})

    @property
    def attempt(self) -> dict[str, Any]:
        return dict(self.status.get("attempt") or {})

    @cached_property
    def alias(self) -> str | None:
        wanted = (self.promotion.get("spec") or {}).get("alias", "champion")
        aliases = {each["alias"]: each["version"] for each in self.model.get("aliases", [])}
        return aliases.get(wanted)

    @property
    def stages(self) -> dict[str, str]:
        found = {number: version["current_stage"] for number, version in self.versions.items()}
        return {number: stage for number, stage in found.items() if stage != "None"}

    @property
    def quarantined(self) -> set[str]:
        return {each["version"] for each in self.status.get("quarantined", [])}

    def condition(self, kind: str) -> str:
        for each in self.status.get("conditions", []):
            if each["type"] == kind:
                return f"{each['status']}/{each['reason']}"
        return ""

    def annotation(self, deployment: str, name: str) -> str:
        template = self.deployments[deployment]["spec"]["template"]["metadata"]
        return str((template.get("annotations") or {}).get(f"podium.dev/{name}", ""))

    def ready(self, deployment: str) -> int:
        """Pods of the Deployment that are ready and not ending."""
        wanted = self.deployments[deployment]["spec"]["selector"]["matchLabels"].items()
        return sum(
            1
            for pod in self.pods
            if wanted <= (pod["metadata"].get("labels") or {}).items()
            and not pod["metadata"].get("deletionTimestamp")
            and any(
                c["type"] == "Ready" and c["status"] == "True"
                for c in (pod.get("status") or {}).get("conditions", [])
            )
        )

    def serves(self, deployment: str, version: str) -> bool:
        """Rolled out: every replica updated and available, and on that version."""
        found = self.deployments[deployment]
        status, wanted = found.get("status") or {}, found["spec"]["replicas"]
        return (
            self.annotation(deployment, "model-version") == version
            and status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("updatedReplicas") == wanted
            and status.get("availableReplicas") == wanted
            and status.get("replicas") == wanted
        )


class World:
    """One trial's namespace and model."""

    def __init__(self, cluster: Cluster, registry: Registry, namespace: str) -> None:
        self.cluster, self.registry, self.namespace = cluster, registry, namespace
        self.model = f"model {namespace}"

    def path(self, plural: str, name: str = "", group: str = "podium.dev/v1alpha1") -> str:
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def state(self, promotion: str = "p") -> State:
        deployments = self.cluster.call("GET", self.path("deployments", group="apps/v1"))
        pods = self.cluster.call("GET", self.path("pods", group="v1"))
        listed = self.cluster.call("GET", self.path("modelpromotions"))
        promotions = {each["metadata"]["name"]: each for each in listed["items"]}
        return State(
            promotion=promotions.pop(promotion, {}),
            others=tuple(p for p in promotions.values() if p["spec"]["model"] == self.model),
            deployments={each["metadata"]["name"]: each for each in deployments["items"]},
            pods=tuple(pods["items"]),
            model=self.registry.model(self.model),
            versions=self.registry.versions(self.model),
        )

    def apply(self, plural: str, body: dict[str, Any], group: str = "podium.dev/v1alpha1") -> None:
        self.cluster.apply(self.path(plural, body["metadata"]["name"], group), body)
