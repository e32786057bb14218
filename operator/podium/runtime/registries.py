"""The ModelRegistries in use: makes their clients from spec and Secrets, keeps their status.

A registry that cannot be used is a Problem for each promotion that names it, never an exception.
"""

import logging
import random
from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec.structs import replace

from podium.api.meta import Condition, ConditionStatus, ObjectMeta
from podium.api.model_registry import Capabilities, ModelRegistry, ModelRegistrySpec
from podium.api.reasons import ConditionType, Reason
from podium.api.values import ParseError, write
from podium.clock import SYSTEM, Clock
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import ClusterError
from podium.cluster.resources import PodiumKind
from podium.engine.observation import Problem, ProblemKind
from podium.registry.client import RegistryClient
from podium.registry.errors import CredentialsUnavailable, RegistryError
from podium.registry.model import Capabilities as Able
from podium.registry.model import Credentials
from podium.runtime import problems, unreadable
from podium.runtime.cache import Cache
from podium.runtime.connected import REQUEST_SECONDS, Connected, Wanted
from podium.runtime.keys import Name
from podium.runtime.queue import Backoff
from podium.runtime.settings import DefaultRegistry

REVISIT_SECONDS = 300.0  # how old a CA bundle and a probe may get
SOON_SECONDS = 10.0
_KEYS = frozenset({"token", "username", "password"})

_log = logging.getLogger(__name__)
OnRequest = Callable[[str, float, str], None]


class Registries:
    """One `Connected` per usable ModelRegistry. `changed(registry, model | None)` is told which
    promotions to look at again, `look_again` which ModelRegistry: its status is out of date."""

    def __init__(
        self,
        cache: Cache,
        kube: KubernetesClient,
        changed: Callable[[Name, str | None], None],
        look_again: Callable[[Name], None],
        on_request: OnRequest,
        default: tuple[Name, DefaultRegistry] | None,
        rng: random.Random,
        clock: Clock = SYSTEM,
        client: Callable[..., RegistryClient] = RegistryClient,
        on_poll: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._cache = cache
        self._kube = kube
        self._changed = changed
        self._look_again = look_again
        self._backoff: Backoff[Name] = Backoff(rng)
        self._on_request = on_request
        self._default = default
        self._rng = rng
        self._clock = clock
        self._client = client
        self._on_poll = on_poll
        self._connected: dict[Name, Connected] = {}
        self._built_from: dict[Name, tuple[ModelRegistrySpec, bytes | None]] = {}
        self._problems: dict[Name, Problem] = {}

    def get(self, name: Name) -> Connected | Problem:
        connected = self._connected.get(name)
        if connected is not None:
            return connected
        return self._problems.get(name) or Problem(
            ProblemKind.WAITING,
            Reason.REGISTRY_NOT_FOUND,
            f"there is no ModelRegistry {name}; create it, or name another in spec.registryRef",
        )

    def pending(self, name: Name) -> bool:
        """Whether the registry exists and nobody has found out yet how it is. Passes wait for
        that, or each start of the operator would write to every status."""
        connected = self._connected.get(name)
        if connected is not None:
            return connected.pending
        exists = name in self._cache.registries or self._from_environment(name) is not None
        return exists and name not in self._problems

    def server_of(self, name: Name) -> tuple[str, str | None] | None:
        """What two registries have in common when they are the same server and workspace."""
        spec = self._built_from[name][0] if name in self._built_from else None
        return (spec.tracking_uri.rstrip("/").lower(), spec.workspace) if spec else None

    def poll_lags(self) -> Mapping[Name, float]:
        """Seconds since the last good poll began, per registry."""
        now = self._clock.monotonic()
        return {
            name: now - connected.polled_at
            for name, connected in self._connected.copy().items()
            if connected.polled_at is not None
        }

    async def close(self) -> None:
        for name in list(self._connected):
            await self._drop(name)

    async def reconcile(self, name: Name) -> float | None:
        """Brings the client in line with the object. Gives seconds until the next look."""
        raw = self._cache.registries.get(name)
        try:
            registry = self._cache.registry(name) or self._from_environment(name)
        except ParseError as error:
            await self._drop(name)
            await self._refused(name, Problem(ProblemKind.STALLED, Reason.INVALID_SPEC, str(error)))
            if raw is not None:
                await unreadable.tell(
                    self._kube, PodiumKind.REGISTRIES, raw, error, self._clock.now()
                )
            return None
        if registry is None:
            await self._drop(name)
            self._problems.pop(name, None)
            self._backoff.succeeded(name)
            self._changed(name, None)
            return None
        try:
            connected = await self._connect(name, registry)
            connected.learned(await connected.client.probe())
            # The poll has the last word: what it cannot do, a probe may.
            problem = connected.problem
            if problem is not None:
                connected.poll_soon()
        except RegistryError as error:
            problem = problems.of_registry(error)
            if name in self._connected:
                self._connected[name].failed(error)
            else:
                await self._refused(name, problem)
        except ClusterError as error:
            problem = error.problem()
            await self._refused(name, problem)
        written = await self._write_status(registry, problem)
        if problem is not None and problem.kind is ProblemKind.TRANSIENT:
            return max(SOON_SECONDS, self._backoff.failed(name))
        self._backoff.succeeded(name)
        return REVISIT_SECONDS if problem is None and written else SOON_SECONDS

    async def _connect(self, name: Name, registry: ModelRegistry) -> Connected:
        known = self._connected.get(name)
        if known is not None and self._built_from[name][0] != registry.spec:
            # At once, whatever else is missing: nothing more goes to where it no longer points.
            await self._drop(name)
        ca = await self._ca(registry)
        if known is not None and self._built_from.get(name) == (registry.spec, ca):
            return known
        await self._drop(name)
        client = self._client(
            tracking_uri=registry.spec.tracking_uri,
            workspace=registry.spec.workspace,
            credentials=lambda: self._credentials(registry),
            ca_pem=ca,
            request_timeout=REQUEST_SECONDS,
            on_request=self._on_request,
            clock=self._clock,
            rng=self._rng,
        )
        connected = Connected(
            registry,
            client,
            wanted=lambda: self._wanted(name),
            changed=lambda model: self._news(name, model),
            rng=self._rng,
            clock=self._clock,
            on_poll=self._on_poll,
        )
        self._connected[name] = connected
        self._built_from[name] = (registry.spec, ca)
        self._problems.pop(name, None)
        connected.start()
        self._changed(name, None)
        return connected

    def _news(self, name: Name, model: str | None) -> None:
        self._changed(name, model)
        if model is None:
            self._look_again(name)

    def _wanted(self, name: Name) -> list[Wanted]:
        all_versions: dict[str, bool] = {}
        for promotion in self._cache.of_registry(name):
            entry = self._cache.promotions[promotion]
            every = all_versions.get(entry.model, False) or entry.all_versions
            all_versions[entry.model] = every
        return [Wanted(model, every) for model, every in all_versions.items()]

    async def _drop(self, name: Name) -> None:
        connected = self._connected.pop(name, None)
        self._built_from.pop(name, None)
        if connected is not None:
            await connected.close()

    async def _refused(self, name: Name, problem: Problem) -> None:
        known = self._problems.get(name)
        if name not in self._connected:
            self._problems[name] = problem
        if known != problem:
            self._changed(name, None)

    def _from_environment(self, name: Name) -> ModelRegistry | None:
        if self._default is None or self._default[0] != name:
            return None
        given = self._default[1]
        return ModelRegistry(
            metadata=ObjectMeta(name=name.name, namespace=name.namespace),
            spec=ModelRegistrySpec(tracking_uri=given.tracking_uri, workspace=given.workspace),
        )

    async def _credentials(self, registry: ModelRegistry) -> Credentials | None:
        reference = registry.spec.credentials_secret_ref
        if reference is None:
            # Only the stand-in for an absent object has no UID: then the operator's own are meant.
            own = self._default is not None and not registry.metadata.uid
            return self._default[1].credentials if own and self._default else None
        namespace = registry.metadata.namespace
        where = f"Secret {namespace}/{reference.name}"
        try:
            secret = await self._kube.get_secret(namespace, reference.name)
        except ClusterError as error:
            raise CredentialsUnavailable(f"{where} could not be read: {error}") from error
        if secret is None:
            raise CredentialsUnavailable(
                f"{where} does not exist; create it with the keys username and password, or token"
            )
        values = {key: _text(secret[key], f"{where}, key {key},") for key in _KEYS & secret.keys()}
        if values.get("token"):
            return Credentials(token=values["token"])
        if values.get("username") and "password" in values:
            return Credentials(username=values["username"], password=values["password"])
        raise CredentialsUnavailable(
            f"{where} has neither the keys username and password nor the key token"
        )

    async def _ca(self, registry: ModelRegistry) -> bytes | None:
        reference = registry.spec.tls.ca_secret_ref if registry.spec.tls else None
        if reference is None:
            return None
        namespace = registry.metadata.namespace
        secret = await self._kube.get_secret(namespace, reference.name)
        if secret is None or reference.key not in secret:
            missing = "does not exist" if secret is None else f'has no key "{reference.key}"'
            raise CredentialsUnavailable(
                f"Secret {namespace}/{reference.name} of spec.tls.caSecretRef {missing}"
            )
        return secret[reference.key]

    async def _write_status(self, registry: ModelRegistry, problem: Problem | None) -> bool:
        """Whether the status is as it should be now."""
        if not registry.metadata.uid:
            return True
        now = self._clock.now().replace(microsecond=0)
        connected = self._connected.get(Name(registry.metadata.namespace, registry.metadata.name))
        able = connected.capabilities if connected else None
        status = replace(
            registry.status,
            conditions=_conditions(registry, problem, able, now),
            observed_generation=registry.metadata.generation,
        )
        if able is not None and problem is None:
            status = replace(
                status,
                server_version=able.server_version,
                capabilities=Capabilities(
                    aliases=able.aliases, stages=able.stages, webhooks=able.webhooks
                ),
            )
        if write(status) == write(registry.status):
            return True
        metadata = registry.metadata
        try:
            raw = await self._kube.write_status(
                PodiumKind.REGISTRIES,
                metadata.namespace,
                metadata.name,
                uid=metadata.uid,
                resource_version=metadata.resource_version,
                status=write(status),
            )
        except ClusterError as error:
            _log.info("status of the ModelRegistry was not written: %s", error)
            return False
        self._cache.put_registry(raw)
        return True


def _text(value: bytes, what: str) -> str:
    """A credential as it goes into a header. Raises CredentialsUnavailable, which does not show
    it."""
    try:
        text = value.decode().strip()
    except UnicodeDecodeError:
        raise CredentialsUnavailable(f"{what} holds what is no text") from None
    if not text.isprintable():
        raise CredentialsUnavailable(f"{what} holds a line break or another control character")
    return text


def _able_to(able: Able | None) -> str:
    """What somebody must know of a server that can do less than a current one."""
    message = "the server answers"
    if able is not None and not able.aliases:
        message += (
            "; it has no aliases (MLflow has them since 2.3), so Podium keeps the version tag "
            'alias_<alias> = "true" in their place, and only modelSource Version works'
        )
    if able is not None and not able.stages:
        message += "; it has no stages or refuses them, and Podium carries on without"
    return message


def _conditions(
    registry: ModelRegistry, problem: Problem | None, able: Able | None, now: datetime
) -> tuple[Condition, ...]:
    stalled = problem is not None and problem.kind is ProblemKind.STALLED
    reason = problem.reason if problem else Reason.CONNECTED
    message = problem.message[:512] if problem else _able_to(able)
    made = (
        (ConditionType.READY, problem is None, reason, message),
        (ConditionType.STALLED, stalled, reason, message),
    )
    known = {condition.type: condition for condition in registry.status.conditions}
    conditions = []
    for kind, holds, why, text in made:
        status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
        before = known.get(kind)
        conditions.append(
            Condition(
                type=kind,
                status=status,
                reason=why,
                message=text,
                last_transition_time=before.last_transition_time
                if before and before.status is status
                else now,
                observed_generation=registry.metadata.generation,
            )
        )
    return tuple(conditions)
