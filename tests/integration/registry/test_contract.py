"""The client against real MLflow servers: what holds on every server of the supported range."""

from __future__ import annotations

import asyncio
import math
import secrets

import msgspec
import pytest

from podium.registry import (
    Capabilities,
    EndpointMissing,
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    RegistryClient,
    RunNotFound,
    VersionNotFound,
    WorkspaceUnsupported,
)
from testbed.mlflow import MlflowServer
from tests.integration.registry.conftest import Kind, open_client
from tests.integration.registry.mlflow_api import MlflowApi

pytestmark = pytest.mark.mlflow

ODD_NAMES = (
    "it's",
    'say "hi"',
    "both ' and \"",
    "two '' and \"\" pairs",
    "a b ü 漢字",
    "100% _done_",
    "back\\slash",
    "ends with \\",
    "quote\\\" and ' slash",
    "(a, b) IN (1)",
    "semi;colon -- dash",
    "a#b?c&d+e=f",
    "`tick`",
    "tab\there",
)


@pytest.fixture
def api(server: MlflowServer) -> MlflowApi:
    return MlflowApi(server.uri)


async def test_the_probe_finds_what_the_server_can_do(
    client: RegistryClient, api: MlflowApi, kind: Kind, name: str
) -> None:
    # 2.2 ignores `name IN`: an empty registry cannot show it.
    api.model(name, versions=1)
    found = await client.probe()
    flags = {f for f in Capabilities.__struct_fields__ if getattr(found, f) is True}
    assert flags == kind.able
    assert (found.server_version or "").startswith(kind.version.removesuffix("x"))


async def test_the_probe_changes_nothing(client: RegistryClient, api: MlflowApi, name: str) -> None:
    api.model(name, versions=1)
    before = (await client.get_model(name), await client.search_versions(name))
    await client.probe()
    assert (await client.get_model(name), await client.search_versions(name)) == before
    assert await client.search_models(["podium.dev/probe"]) == {}


async def test_a_model_is_read_with_its_tags_and_newest_versions(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=2, team="risk")
    api.version(name, reviewed="true")
    model = await client.get_model(name)
    assert model.tags == {"team": "risk"}
    assert [(v.version, v.tags) for v in model.latest_versions] == [("3", {"reviewed": "true"})]
    assert model.latest_versions[0].status == "READY"


@pytest.mark.parametrize("suffix", [*ODD_NAMES, "x" * 247, "漢" * 200])
async def test_a_name_of_any_form_is_found_by_every_call(
    client: RegistryClient, api: MlflowApi, suffix: str
) -> None:
    name = f"{secrets.token_hex(4)} {suffix}"
    api.model(name, versions=2)
    await client.set_alias(name, "champion", "2")
    await client.set_version_tag(name, "1", "k", "v")
    assert (await client.get_model(name)).aliases == {"champion": "2"}
    found = await client.search_models([name, "no such model", f"{name}x"])
    assert {n: dict(m.aliases) for n, m in found.items()} == {name: {"champion": "2"}}
    versions = await client.search_versions(name)
    assert [(v.name, v.version, v.tags.get("k")) for v in versions] == [
        (name, "1", "v"),
        (name, "2", None),
    ]


async def test_many_names_are_found_in_one_search(client: RegistryClient, api: MlflowApi) -> None:
    mark = secrets.token_hex(4)
    names = [f"{mark} {number} {ODD_NAMES[number % len(ODD_NAMES)]}" for number in range(130)]
    await asyncio.gather(*(asyncio.to_thread(api.model, name) for name in names))
    found = await client.search_models([*names, f"{mark} absent", *names[:3]])
    assert sorted(found) == sorted(names)


async def test_the_versions_of_many_models_are_read_together(
    client: RegistryClient, api: MlflowApi, kind: Kind
) -> None:
    mark = secrets.token_hex(4)
    names = [f"{mark} {number} {odd}" for number, odd in enumerate(ODD_NAMES)]
    for number, each in enumerate(names):
        api.model(each, versions=number % 3)
    api.version(names[3], reviewed="true")
    found = await client.search_versions_of([*names, f"{mark} absent"])
    assert {each: [v.version for v in found[each]] for each in found} == {
        each: [str(n + 1) for n in range(number % 3 + (number == 3))]
        for number, each in enumerate(names)
        if number % 3 or number == 3
    }
    assert found[names[3]][-1].tags == {"reviewed": "true"}
    able = await client.capabilities()
    assert able.versions_name_in is ("versions_name_in" in kind.able)


async def test_an_alias_moves_and_is_read_fresh(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=3)
    assert await client.get_alias(name, "champion") is None
    for version in ("1", "3", "2"):
        await client.set_alias(name, "champion", version)
        assert await client.get_alias(name, "champion") == version
    await client.set_alias(name, "challenger", "2")
    assert (await client.search_models([name]))[name].aliases == {
        "champion": "2",
        "challenger": "2",
    }
    await client.delete_alias(name, "champion")
    await client.delete_alias(name, "champion")
    assert (await client.get_model(name)).aliases == {"challenger": "2"}


async def test_a_version_that_was_deleted_takes_its_alias_or_leaves_it_dangling(
    client: RegistryClient, api: MlflowApi, name: str, kind: Kind
) -> None:
    api.model(name, versions=2)
    await client.set_alias(name, "champion", "2")
    api.delete_version(name, "2")
    # 2.22 leaves the alias behind; the client must give its number rather than fail.
    assert await client.get_alias(name, "champion") == ("2" if kind.name == "2.22" else None)
    with pytest.raises(VersionNotFound):
        await client.get_version(name, "2")


async def test_a_stage_moves_one_version_and_no_other(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=2)
    for version in ("1", "2"):
        await client.transition_stage(name, version, "Production")
    assert [v.stage for v in await client.search_versions(name)] == ["Production", "Production"]
    moved = await client.transition_stage(name, "1", "Archived")
    assert (moved.version, moved.stage) == ("1", "Archived")
    for stage in ("Staging", "None", "None"):
        await client.transition_stage(name, "2", stage)
        assert (await client.get_version(name, "2")).stage == stage


async def test_tags_are_set_changed_and_deleted_twice(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=1)
    key = "podium.dev/ledger/0123456789abcdef/12"
    for value in ("one", 'two "quoted" ü\n漢'):
        await client.set_model_tag(name, key, value)
        await client.set_version_tag(name, "1", key, value)
        assert (await client.get_model(name)).tags[key] == value
        assert (await client.get_version(name, "1")).tags[key] == value
    for _ in range(2):
        await client.delete_model_tag(name, key)
        await client.delete_version_tag(name, "1", key)
    assert key not in (await client.get_model(name)).tags
    assert key not in (await client.get_version(name, "1")).tags


async def test_a_tag_of_5000_characters_is_kept_whole(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    # The longest that every supported server takes on a version; the ledger stays below it.
    api.model(name, versions=1)
    value = "é" * 5000
    await client.set_version_tag(name, "1", "long", value)
    assert (await client.get_version(name, "1")).tags["long"] == value


async def test_a_tag_of_100000_characters_does_no_harm(
    client: RegistryClient, api: MlflowApi, name: str, kind: Kind
) -> None:
    if not kind.installed:
        pytest.skip("servers before 3 refuse such a tag")
    api.model(name, versions=3)
    for version in ("1", "2", "3"):
        api.post("model-versions/set-tag", name=name, version=version, key="t", value="x" * 100_000)
    assert [len(v.tags["t"]) for v in await client.search_versions(name)] == [100_000] * 3
    assert name in await client.search_models([name])


async def test_what_does_not_exist_is_named(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=1)
    missing = f"{name}-missing"
    for reading in (client.get_model(missing), client.get_alias(missing, "champion")):
        with pytest.raises(ModelNotFound, match=missing):
            await reading
    with pytest.raises(VersionNotFound, match="version 99"):
        await client.get_version(name, "99")
    with pytest.raises(VersionNotFound, match="version 99"):
        await client.set_alias(name, "champion", "99")
    with pytest.raises(VersionNotFound, match="version 99"):
        await client.transition_stage(name, "99", "Staging")
    with pytest.raises(NotFound):
        await client.set_alias(missing, "champion", "1")
    with pytest.raises(ModelNotFound):
        await client.set_model_tag(missing, "k", "v")
    with pytest.raises(RunNotFound):
        await client.get_run("f" * 32)
    with pytest.raises(InvalidRequest):
        await client.transition_stage(name, "1", "Best")
    assert await client.search_versions(missing) == []
    assert await client.search_models([missing]) == {}


async def test_a_reserved_alias_is_refused_by_servers_that_have_aliases(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    if not (await client.capabilities()).aliases:
        pytest.skip("no aliases, no reserved ones")
    api.model(name, versions=1)
    with pytest.raises(InvalidName, match="v1"):
        await client.set_alias(name, "v1", "1")


async def test_versions_are_paged_to_the_end_in_order(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=23)
    versions = await client._versions_by(name, 5)
    assert [v.version for v in versions] == [str(number) for number in range(1, 24)]


async def test_a_search_that_names_do_not_filter_pages_to_the_end(
    server: MlflowServer, api: MlflowApi, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.registry.client.MODELS_PER_PAGE", 7)
    monkeypatch.setattr("podium.registry.client.FEW_MODELS", 0)
    names = [f"{name}-{number:02}" for number in range(20)]
    for each in names:
        api.model(each)
    paging = open_client(server.uri)
    await paging.probe()
    paging._learn(name_in=False)
    assert sorted(await paging.search_models([*names, "no such model"])) == names
    await paging.close()


async def test_a_filter_that_turns_out_to_be_ignored_is_given_up(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name)
    api.model(f"{name}-other")
    await client.probe()
    able = (await client.capabilities()).name_in
    client._learn(name_in=True)
    assert list(await client.search_models([name])) == [name]
    if (await client.capabilities()).server_version == "2.2.2":
        assert (await client.capabilities()).name_in is able is False


async def test_a_run_gives_the_last_value_of_each_metric(
    client: RegistryClient, api: MlflowApi
) -> None:
    run_id = api.run([("acc", 0.5, 1), ("acc", 0.75, 2), ("broken", "NaN", 1)], depth="3")
    run = await client.get_run(run_id)
    assert run.metrics["acc"] == 0.75
    assert math.isnan(run.metrics["broken"])
    assert (run.status, run.params) == ("FINISHED", {"depth": "3"})


async def test_a_workspace_is_refused_where_it_would_be_ignored(
    server: MlflowServer, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=1)
    client = open_client(server.uri, workspace="team-a")
    for _ in range(2):
        with pytest.raises(WorkspaceUnsupported, match="workspace"):
            await client.set_alias(name, "champion", "1")
    await client.close()
    plain = open_client(server.uri)
    assert await plain.get_alias(name, "champion") is None
    await plain.close()


async def test_lineage_follows_copies_and_ends_in_none(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name)
    api.version(name, "s3://bucket/model")
    api.version(name, f"models:/{name}/1") if await _accepts_model_sources(client) else None
    for version in await client.search_versions(name):
        assert await client.resolve_logged_model(version) is None


async def test_lineage_that_goes_in_circles_ends(
    client: RegistryClient, api: MlflowApi, name: str
) -> None:
    api.model(name, versions=1)
    version = await client.get_version(name, "1")
    circle = msgspec.structs.replace(version, version="7", source=f"models:/{name}/7")
    assert await client.resolve_logged_model(circle) is None


async def test_logged_models_are_missing_before_mlflow_3(
    client: RegistryClient, kind: Kind
) -> None:
    expected = NotFound if kind.installed else EndpointMissing
    with pytest.raises(expected):
        await client.get_logged_model("m-" + "0" * 32)


async def _accepts_model_sources(client: RegistryClient) -> bool:
    return (await client.capabilities()).logged_models
