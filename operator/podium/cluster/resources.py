"""The kinds of objects that Podium reads or writes, and where the API server serves them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

Raw = Mapping[str, object]  # an object as JSON gives it


class PodiumKind(StrEnum):
    """The resources of podium.dev, by their plural."""

    PROMOTIONS = "modelpromotions"
    REGISTRIES = "modelregistries"
    DECISIONS = "promotiondecisions"


@dataclass(frozen=True)
class Resource:
    group: str  # "" is the core group
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        """The URL's path; without a namespace: of all namespaces, or of a cluster-wide kind."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


NAMESPACES = Resource("", "v1", "namespaces", "Namespace")
PODS = Resource("", "v1", "pods", "Pod")
SECRETS = Resource("", "v1", "secrets", "Secret")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")

PODIUM = {
    PodiumKind.PROMOTIONS: Resource("podium.dev", "v1alpha1", "modelpromotions", "ModelPromotion"),
    PodiumKind.REGISTRIES: Resource("podium.dev", "v1alpha1", "modelregistries", "ModelRegistry"),
    PodiumKind.DECISIONS: Resource(
        "podium.dev", "v1alpha1", "promotiondecisions", "PromotionDecision"
    ),
}
