"""ModelRegistry: where an MLflow server is and how to speak to it."""

from fnmatch import fnmatchcase

import msgspec

from podium.api.meta import Condition, ObjectMeta
from podium.api.values import Duration, Resource


class SecretRef(Resource, frozen=True, kw_only=True):
    name: str


class SecretKeyRef(Resource, frozen=True, kw_only=True):
    name: str
    key: str = "ca.crt"


class TLS(Resource, frozen=True, kw_only=True):
    ca_secret_ref: SecretKeyRef | None = None


class ModelRegistrySpec(Resource, frozen=True, kw_only=True):
    tracking_uri: str = msgspec.field(name="trackingURI")
    workspace: str | None = None
    credentials_secret_ref: SecretRef | None = None
    tls: TLS | None = None
    poll_interval: Duration = Duration(15)
    model_patterns: tuple[str, ...] = ()

    def allows(self, model: str) -> bool:
        """Whether promotions of this namespace may touch `model` through this registry."""
        return not self.model_patterns or any(fnmatchcase(model, p) for p in self.model_patterns)


class Capabilities(Resource, frozen=True, kw_only=True, omit_defaults=False):
    aliases: bool = False
    stages: bool = False
    webhooks: bool = False


class ModelRegistryStatus(Resource, frozen=True, kw_only=True):
    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    server_version: str | None = None
    capabilities: Capabilities | None = None


class ModelRegistry(Resource, frozen=True, kw_only=True):
    metadata: ObjectMeta
    spec: ModelRegistrySpec
    status: ModelRegistryStatus = ModelRegistryStatus()
