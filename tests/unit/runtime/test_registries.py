"""ModelRegistries in use: when a client is replaced, what a Secret may hold, what status says."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import pytest

from podium.api.reasons import Reason
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import Conflict
from podium.engine.observation import Problem
from podium.registry.client import RegistryClient
from podium.registry.errors import CredentialsUnavailable, NotMlflow, RegistryUnavailable
from podium.registry.model import Capabilities, Credentials
from podium.registry.stored import StoredModel
from podium.runtime.cache import Cache
from podium.runtime.connected import Connected
from podium.runtime.keys import Name
from podium.runtime.registries import REVISIT_SECONDS, SOON_SECONDS, Registries
from tests.unit.runtime.test_connected import ABLE

NAME = Name("a", "mlflow")
Raw = dict[str, Any]


class Client:
    """A RegistryClient whose server answers as the test says."""

    made: list["Client"]
    able: Capabilities
    polls: Exception | None

    def __init__(self, tracking_uri: str, credentials: Any, **_: object) -> None:
        self.tracking_uri, self.credentials, self.closed = tracking_uri, credentials, False
        self.made.append(self)

    async def probe(self) -> Capabilities:
        return self.able

    capabilities = probe

    async def search_portions(
        self, names: Sequence[str]
    ) -> AsyncIterator[tuple[Sequence[str], Mapping[str, StoredModel]]]:
        if self.polls is not None:
            raise self.polls
        yield names, {}

    async def close(self) -> None:
        self.closed = True


class Kube:
    """The Kubernetes API: Secrets of namespace `a`, and the status that was written last."""

    def __init__(self) -> None:
        self.secrets: dict[str, Mapping[str, bytes]] = {}
        self.status: Raw = {}
        self.conflicts = 0
        self.version = 1

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.secrets.get(name)

    async def write_status(self, kind: object, *_: str, status: Raw, **__: str) -> Raw:
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("somebody was faster")
        self.status = status
        self.version += 1
        return {**registry(self.version), "status": status}


def registry(version: int = 1, uri: str = "http://mlflow", **spec: object) -> Raw:
    metadata = {"namespace": "a", "name": "mlflow", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"trackingURI": uri, **spec}}


class World:
    def __init__(self, client: type[RegistryClient]) -> None:
        self.kube = Kube()
        self.cache = Cache()
        self.changed: list[tuple[Name, str | None]] = []
        self.again: list[Name] = []
        self.registries = Registries(
            self.cache,
            cast(KubernetesClient, self.kube),
            lambda name, model: self.changed.append((name, model)),
            self.again.append,
            lambda *_: None,
            None,
            random.Random(1),
            client=client,
        )

    async def look(self, raw: Raw) -> float | None:
        self.cache.put_registry(raw)
        return await self.registries.reconcile(NAME)

    def condition(self, kind: str) -> Raw:
        return next(c for c in self.kube.status["conditions"] if c["type"] == kind)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    Client.made, Client.able, Client.polls = [], ABLE, None
    made = World(cast(type[RegistryClient], Client))
    yield made
    await made.registries.close()
    assert all(client.closed for client in Client.made)


async def test_a_client_is_kept_while_the_spec_stays_and_closed_when_it_changes(
    world: World,
) -> None:
    assert await world.look(registry()) == REVISIT_SECONDS
    await world.look(registry(13))
    assert len(Client.made) == 1
    await world.look(registry(14, "http://other"))
    assert [client.closed for client in Client.made] == [True, False]


async def test_nothing_goes_to_the_old_server_while_the_new_one_lacks_its_ca(
    world: World,
) -> None:
    await world.look(registry())
    await world.look(registry(13, "https://other", tls={"caSecretRef": {"name": "ca"}}))
    assert [client.closed for client in Client.made] == [True]
    found = world.registries.get(NAME)
    assert isinstance(found, Problem) and found.reason is Reason.SECRET_NOT_FOUND


async def test_what_a_server_cannot_do_stands_in_the_condition(world: World) -> None:
    await world.look(registry())
    assert world.condition("Ready")["message"] == "the server answers"
    Client.able = msgspec.structs.replace(ABLE, aliases=False, stages=False)
    await world.look(registry())
    said = world.condition("Ready")
    assert (said["status"], said["reason"]) == ("True", "Connected")
    for part in ('tag alias_<alias> = "true"', "only modelSource Version works", "no stages"):
        assert part in said["message"]


async def test_a_poll_that_fails_shows_though_the_probe_goes_well(world: World) -> None:
    metadata = {"namespace": "a", "name": "p", "uid": "p", "resourceVersion": "1"}
    spec = {"model": "m", "registryRef": {"name": "mlflow"}}
    world.cache.put_promotion({"metadata": metadata, "spec": spec})
    Client.polls = NotMlflow("what answers there is no MLflow")
    await world.look(registry())
    await asyncio.sleep(0.01)
    assert world.again == [NAME]
    assert await world.look(registry()) == SOON_SECONDS
    assert world.condition("Stalled")["reason"] == "NotMLflow"
    Client.polls = None
    await world.look(registry())
    await asyncio.sleep(0.01)
    assert world.again == [NAME, NAME]
    await world.look(registry())
    assert world.condition("Ready")["status"] == "True"


async def test_a_status_that_met_a_conflict_is_written_soon_and_not_in_five_minutes(
    world: World,
) -> None:
    world.kube.conflicts = 1
    delay = await world.look(registry())
    assert delay == SOON_SECONDS
    assert await world.registries.reconcile(NAME) == REVISIT_SECONDS
    assert world.condition("Ready")["status"] == "True"


async def test_a_registry_that_cannot_be_read_says_so_and_is_not_used(world: World) -> None:
    await world.look(registry())
    assert await world.look(registry(13, pollInterval=7)) is None  # type: ignore[arg-type]
    assert [client.closed for client in Client.made] == [True]
    found = world.registries.get(NAME)
    assert isinstance(found, Problem) and "pollInterval" in found.message
    assert world.condition("Stalled")["reason"] == "InvalidSpec"


async def credentials_of(world: World, **secret: bytes) -> Credentials | None:
    world.kube.secrets["login"] = secret
    await world.look(registry(credentialsSecretRef={"name": "login"}))
    read: Credentials | None = await Client.made[-1].credentials()
    return read


async def test_a_secret_may_hold_other_things_too(world: World) -> None:
    read = await credentials_of(world, username=b"anna\n", password=b"s3cr3t\n", store=b"\xff\xfe")
    assert read == Credentials(username="anna", password="s3cr3t")


@pytest.mark.parametrize("token", [b"s3cr3t\nX-Evil: 1", b"s3cr3t\xff", b"s3cr3t\x00"])
async def test_a_credential_that_no_header_takes_is_refused_and_not_shown(
    world: World, token: bytes
) -> None:
    with pytest.raises(CredentialsUnavailable, match="Secret a/login, key token,") as refused:
        await credentials_of(world, token=token)
    assert "s3cr3t" not in str(refused.value)


async def test_a_password_in_the_address_is_shown_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(RegistryClient)
    caplog.set_level("DEBUG")
    await world.look(registry(uri="http://anna:s3cr3t@mlflow:5000"))
    found = world.registries.get(NAME)
    assert isinstance(found, Problem) and found.reason is Reason.INVALID_SPEC
    shown = f"{found} {world.kube.status} {caplog.text}"
    assert "credentialsSecretRef" in shown and "s3cr3t" not in shown


async def test_a_registry_that_is_deleted_leaves_nothing(world: World) -> None:
    await world.look(registry())
    world.cache.registries.clear()
    assert await world.registries.reconcile(NAME) is None
    assert not isinstance(world.registries.get(NAME), Connected)
    assert Client.made[0].closed


async def test_a_secret_that_is_missing_is_looked_for_soon_and_a_server_ever_less_often(
    world: World,
) -> None:
    spec = {"credentialsSecretRef": {"name": "login"}, "tls": {"caSecretRef": {"name": "ca"}}}
    assert await world.look(registry(13, "https://mlflow", **spec)) == SOON_SECONDS
    Client.able = property(_away)  # type: ignore[assignment]
    await world.look(registry(14))
    delays = [await world.registries.reconcile(NAME) or 0 for _ in range(8)]
    assert delays[:3] == [SOON_SECONDS] * 3 and all(50 < delay < 70 for delay in delays[-2:])


def _away(_: Client) -> Capabilities:
    raise RegistryUnavailable("no answer")
