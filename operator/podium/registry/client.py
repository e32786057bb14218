"""The registry client: MLflow's model registry, runs and logged models, as typed async calls.

One per ModelRegistry. Reads are fresh, nothing is cached but what the server can do. Writes do
what they are told, once; whether they should is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

import msgspec

from podium.registry import answers, filters, probe, requests, tag_aliases, wire
from podium.registry.answers import Answer, Call
from podium.registry.connection import MAX_LISTING_BYTES, RegistryConnection
from podium.registry.errors import (
    EndpointMissing,
    InvalidRequest,
    NotFound,
    NotMlflow,
    StagesUnsupported,
    TooLarge,
    WorkspaceUnsupported,
)
from podium.registry.lineage import MAX_COPIES, logged_model_in, version_in
from podium.registry.model import (
    Capabilities,
    LoggedMetric,
    LoggedModel,
    RegisteredModel,
    Run,
    Version,
)
from podium.registry.stored import StoredModel, digest_of

VERSIONS_PER_PAGE = 200
MODELS_PER_PAGE = 1000
VERSIONS_OF_MANY_PER_PAGE = 1000
MAX_PAGES = 1000
MAX_ZEROS = 200  # metrics of one logged model that are looked up, each by a request
# Up to here, asking for each model beats paging through a registry of unknown size.
FEW_MODELS = 20


class _Page(Protocol):
    next_page_token: str | None


PageT = TypeVar("PageT", bound=_Page)


class RegistryClient(RegistryConnection):
    """Speaks to one MLflow server. Every method raises a RegistryError when it cannot."""

    _capabilities: Capabilities | None = None
    _learned: Mapping[str, bool] = MappingProxyType({})

    # What the server can do

    async def probe(self) -> Capabilities:
        """Ask the server anew what it can do, without changing anything there.

        Raises WorkspaceUnsupported when a workspace is configured that the server would ignore.
        """
        found = await probe.capabilities(self._call, self._raw)
        known = self._capabilities
        if known is not None and known.server_version != found.server_version:
            self._learned = {}
        found = msgspec.structs.replace(found, **self._learned)
        self._capabilities = found
        if self._workspace is not None and not found.workspaces:
            raise WorkspaceUnsupported(
                f"The registry at {self.address} has no workspaces and would ignore "
                f"`{self._workspace}`. Leave spec.workspace out, or enable workspaces there."
            )
        return found

    async def capabilities(self) -> Capabilities:
        """What the server can do, as last probed; probes when nobody did."""
        return self._capabilities or await self.probe()

    async def _ready(self) -> Capabilities:
        """Before anything else with a workspace: an old server would act on the wrong models."""
        found = await self.capabilities()
        if self._workspace is not None and not found.workspaces:
            found = await self.probe()
        return found

    def _learn(self, **found: bool) -> None:
        """What an answer showed and no probe can; it holds until the server is another version."""
        self._learned = {**self._learned, **found}
        if self._capabilities is not None:
            self._capabilities = msgspec.structs.replace(self._capabilities, **found)

    async def _pages(
        self, call: Call, page_type: type[PageT], room: float = MAX_LISTING_BYTES
    ) -> AsyncIterator[PageT]:
        """Every page of the answer. Tokens are offsets, so an item may come twice.

        Bounded in pages and bytes: a registry is the choice of who may write to one namespace,
        and must not fill the memory that all namespaces share.
        """
        tokens: set[str] = set()
        query = call.query
        while True:
            page, size = await self._sized(call, page_type)
            yield page
            token, room = page.next_page_token, room - size
            if not token:
                return
            if token in tokens or len(tokens) >= MAX_PAGES:
                raise NotMlflow(
                    f"The registry at {self.address} gives pages of {call.subject} without end. "
                    "Check what answers there."
                )
            if room < 0:
                raise TooLarge(
                    f"The registry at {self.address} answers with more than "
                    f"{MAX_LISTING_BYTES // 1024**2} MiB of {call.subject}. Delete versions, or "
                    "shorten their tags."
                )
            tokens.add(token)
            call = msgspec.structs.replace(call, query=(*query, ("page_token", token)))

    # Registered models

    async def get_model(self, name: str) -> RegisteredModel:
        """The registered model, read now."""
        able = await self._ready()
        model = await self._stored_model(name)
        if able.aliases:
            return model
        return tag_aliases.with_aliases(model, await self._stored_versions(name))

    async def search_models(self, names: Sequence[str]) -> dict[str, RegisteredModel]:
        """Those of the named models that exist, about a hundred per request."""
        found: dict[str, RegisteredModel] = {}
        async for _, portion in self.search_portions(names):
            found |= {name: stored.decode() for name, stored in portion.items()}
        return found

    async def search_portions(
        self, names: Sequence[str]
    ) -> AsyncIterator[tuple[Sequence[str], Mapping[str, StoredModel]]]:
        """The same, as the server answers: a portion of the names with those of it that exist.

        A portion is asked for when the one before has been taken.
        """
        able = await self._ready()
        wanted = list(dict.fromkeys(names))
        if able.name_in and able.aliases:
            for portion in filters.chunks(wanted):
                yield portion, await self._search_portion(portion)
            return
        found: dict[str, RegisteredModel] = {}
        if able.name_in:
            for portion in filters.chunks(wanted):
                there = await self._search_portion(portion)
                found |= {name: stored.decode() for name, stored in there.items()}
        else:
            found = await self._search_without_names(wanted)
        if not able.aliases:
            versions = await self.search_versions_of(list(found))
            for name, model in found.items():
                found[name] = tag_aliases.with_aliases(model, versions.get(name, []))
        yield wanted, _decoded(found)

    async def _search_portion(self, names: list[str]) -> dict[str, StoredModel]:
        wanted = set(names)
        found: dict[str, StoredModel] = {}
        call = requests.search_models(filters.name_in(names), len(names))
        try:
            async for page in self._pages(call, wire.WrittenModelsAnswer):
                for written in page.registered_models:
                    stored = self._stored(bytes(written), call)
                    if stored.name not in wanted:
                        # The filter is ignored, as by MLflow 2.2; an empty registry hid it so far.
                        self._learn(name_in=False)
                        return _decoded(await self._search_without_names(names))
                    found[stored.name] = stored
        except TooLarge:
            if len(names) == 1:
                raise
            half = len(names) // 2
            return await self._search_portion(names[:half]) | await self._search_portion(
                names[half:]
            )
        except InvalidRequest:
            return _decoded(await self._search_without_names(names))
        return found

    def _stored(self, written: bytes, call: Call) -> StoredModel:
        part = Answer.part(written)
        named = answers.decode(part, wire.Named, call, self.address)

        def decode() -> RegisteredModel:
            return wire.model_from(answers.decode(part, wire.WireModel, call, self.address))

        return StoredModel(named.name, digest_of(written), decode)

    async def _search_without_names(self, names: list[str]) -> dict[str, RegisteredModel]:
        """For servers that refuse or ignore `name IN`: one by one, or through all pages."""
        found: dict[str, RegisteredModel] = {}
        if len(names) <= FEW_MODELS:
            for name in names:
                try:
                    found[name] = await self._stored_model(name)
                except NotFound:
                    continue
            return found
        wanted = set(names)
        call = requests.search_models(None, MODELS_PER_PAGE)
        async for page in self._pages(call, wire.ModelsAnswer, room=math.inf):
            for stored in page.registered_models:
                if stored.name in wanted:
                    found[stored.name] = wire.model_from(stored)
            if len(found) == len(wanted):
                break
        return found

    async def _stored_model(self, name: str) -> RegisteredModel:
        answer = await self._call(requests.get_model(name), wire.ModelAnswer)
        return wire.model_from(answer.registered_model)

    # Versions

    async def search_versions(self, name: str) -> list[Version]:
        """All versions of the model with their tags, by number; empty when there is no model."""
        await self._ready()
        return await self._stored_versions(name)

    async def search_versions_of(self, names: Sequence[str]) -> dict[str, list[Version]]:
        """All versions of each of the models, by number: about a hundred models per request where
        the server can filter versions by names, else one. A model without versions is absent."""
        able = await self._ready()
        wanted = list(dict.fromkeys(names))
        if not able.versions_name_in:
            return await self._versions_one_by_one(wanted)
        found: dict[str, list[Version]] = {}
        for portion in filters.chunks(wanted):
            found |= await self._versions_of_portion(portion)
        return found

    async def _versions_one_by_one(self, names: Sequence[str]) -> dict[str, list[Version]]:
        found = {name: await self._stored_versions(name) for name in names}
        return {name: versions for name, versions in found.items() if versions}

    async def _versions_of_portion(self, names: list[str]) -> dict[str, list[Version]]:
        if len(names) == 1:
            return await self._versions_one_by_one(names)
        wanted = set(names)
        found: dict[str, dict[str, Version]] = {}
        call = requests.search_versions_of(names, VERSIONS_OF_MANY_PER_PAGE)
        try:
            async for page in self._pages(call, wire.VersionsAnswer):
                if any(stored.name not in wanted for stored in page.model_versions):
                    self._learn(versions_name_in=False)
                    return await self._versions_one_by_one(names)
                for stored in filter(wire.numbered, page.model_versions):
                    version = wire.version_from(stored)
                    found.setdefault(stored.name, {})[version.version] = version
        except TooLarge:
            half = len(names) // 2
            return await self._versions_of_portion(names[:half]) | await self._versions_of_portion(
                names[half:]
            )
        except InvalidRequest:
            return await self._versions_one_by_one(names)
        return {n: sorted(by.values(), key=wire.version_number) for n, by in found.items()}

    async def get_version(self, name: str, version: str) -> Version:
        """One version, read now."""
        await self._ready()
        answer = await self._call(requests.get_version(name, version), wire.VersionAnswer)
        return wire.version_from(answer.model_version)

    async def _stored_versions(self, name: str) -> list[Version]:
        per_page = VERSIONS_PER_PAGE
        while True:
            try:
                return await self._versions_by(name, per_page)
            except TooLarge:
                # A page of versions with tags of 100,000 characters each outgrows the limit.
                if per_page == 1:
                    raise
                per_page = max(1, per_page // 10)

    async def _versions_by(self, name: str, per_page: int) -> list[Version]:
        found: dict[str, Version] = {}
        call = requests.search_versions(name, per_page)
        async for page in self._pages(call, wire.VersionsAnswer):
            for stored in page.model_versions:
                if stored.name == name and wire.numbered(stored):
                    found[str(stored.version)] = wire.version_from(stored)
        return sorted(found.values(), key=wire.version_number)

    # Aliases

    async def get_alias(self, name: str, alias: str) -> str | None:
        """The version that the alias points at, read now; None when the alias is not set.

        The version may have been deleted: MLflow lets an alias dangle. Read from the model,
        because MLflow words "no alias", "no version" and "no model" differently in each release.
        """
        return (await self.get_model(name)).aliases.get(alias)

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point the alias at the version, whatever it pointed at. There is no compare-and-set."""
        deadline = self._deadline()
        if (await self._before(deadline, self._ready())).aliases:
            await self._call(requests.set_alias(name, alias, version), wire.Empty, deadline)
            return
        versions = await self._before(deadline, self._stored_versions(name))
        tag = tag_aliases.tag_of(alias)
        set_tag = requests.set_version_tag(name, version, tag, tag_aliases.SET)
        await self._call(set_tag, wire.Empty, deadline)
        await self._delete_tag_from(
            name, tag, [v for v in tag_aliases.holders(alias, versions) if v != version], deadline
        )

    async def delete_alias(self, name: str, alias: str) -> None:
        """Remove the alias; no error when it is not set. Needs MANAGE where EDIT sets it."""
        deadline = self._deadline()
        if (await self._before(deadline, self._ready())).aliases:
            await self._call(requests.delete_alias(name, alias), wire.Empty, deadline)
            return
        versions = await self._before(deadline, self._stored_versions(name))
        holders = tag_aliases.holders(alias, versions)
        await self._delete_tag_from(name, tag_aliases.tag_of(alias), holders, deadline)

    async def _delete_tag_from(
        self, name: str, tag: str, versions: Sequence[str], deadline: float
    ) -> None:
        for version in versions:
            call = requests.delete_version_tag(name, version, tag)
            await self._call(call, wire.Empty, deadline)

    # Tags and stages

    async def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of the registered model."""
        await self._change(requests.set_model_tag(name, key, value))

    async def delete_model_tag(self, name: str, key: str) -> None:
        """Delete a tag of the registered model; no error when it is not there."""
        await self._change(requests.delete_model_tag(name, key))

    async def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of the version."""
        await self._change(requests.set_version_tag(name, version, key, value))

    async def delete_version_tag(self, name: str, version: str, key: str) -> None:
        """Delete a tag of the version; no error when it is not there."""
        await self._change(requests.delete_version_tag(name, version, key))

    async def _change(self, call: Call) -> None:
        deadline = self._deadline()
        await self._before(deadline, self._ready())
        await self._call(call, wire.Empty, deadline)

    async def transition_stage(self, name: str, version: str, stage: str) -> Version:
        """Move the version to None, Staging, Production or Archived, and touch no other version.

        MLflow's own archiving of the others races (two writers leave two in Production), so it
        is never asked for. Raises StagesUnsupported where the server has no stages.
        """
        deadline = self._deadline()
        able = await self._before(deadline, self._ready())
        if able.stages:
            call = requests.transition_stage(name, version, stage)
            try:
                answer = await self._call(call, wire.VersionAnswer, deadline)
                return wire.version_from(answer.model_version)
            except EndpointMissing:
                self._learn(stages=False)
            except InvalidRequest as error:
                if not probe.refuses_stages(error):
                    raise
                self._learn(stages=False)
        raise StagesUnsupported(
            f"The registry at {self.address} has no model stages. Podium moves aliases only; set "
            "spec.stage of the promotion to None to say so."
        )

    # Runs and logged models

    async def get_run(self, run_id: str) -> Run:
        """The run with the last logged value of each metric."""
        await self._ready()
        return wire.run_from((await self._call(requests.get_run(run_id), wire.RunAnswer)).run)

    async def get_logged_model(self, model_id: str) -> LoggedModel:
        """The logged model with its metrics.

        MLflow 3.17 answers 0.0 for a logged model's metric that is NaN, and NaN for the same
        metric of its run. So each zero is looked up in its run; one that cannot be is NaN here,
        because nothing unknown may pass a gate.
        """
        await self._ready()
        answer = await self._call(requests.get_logged_model(model_id), wire.LoggedModelAnswer)
        model = wire.logged_model_from(answer.model)
        checked: list[LoggedMetric] = []
        zeros = 0
        for metric in model.metrics:
            zeros += metric.value == 0.0
            checked.append(await self._without_false_zero(metric, look=zeros <= MAX_ZEROS))
        return msgspec.structs.replace(model, metrics=tuple(checked))

    async def _without_false_zero(self, metric: LoggedMetric, *, look: bool) -> LoggedMetric:
        if metric.value != 0.0:
            return metric
        run_id = metric.run_id
        if look and run_id is not None and await self._was_logged_as_zero(metric, run_id):
            return metric
        return msgspec.structs.replace(metric, value=math.nan)

    async def _was_logged_as_zero(self, metric: LoggedMetric, run_id: str) -> bool:
        call = requests.metric_history(run_id, metric.key)
        seen_zero = False
        try:
            async for page in self._pages(call, wire.MetricHistoryAnswer):
                for logged in page.metrics:
                    same_moment = wire.time_from(logged.timestamp) == metric.timestamp
                    if same_moment and wire.whole(logged.step) == metric.step:
                        if math.isnan(wire.metric_value(logged.value)):
                            return False
                        seen_zero = True
        except NotFound:
            return False
        return seen_zero

    async def resolve_logged_model(self, version: Version) -> LoggedModel | None:
        """The logged model behind the version, through copies of versions; None without one.

        MLflow leaves ModelVersion.model_id empty, so the way is the source: `models:/m-<id>`, or
        `models:/<name>/<version>` for a copy.
        """
        seen = {(version.name, version.version)}
        for _ in range(MAX_COPIES):
            try:
                model_id = logged_model_in(version.source)
                if model_id is not None:
                    return await self.get_logged_model(model_id)
                origin = version_in(version.source)
                if origin is None or origin in seen:
                    return None
                seen.add(origin)
                version = await self.get_version(*origin)
            except (NotFound, EndpointMissing):
                return None
        return None


def _decoded(models: Mapping[str, RegisteredModel]) -> dict[str, StoredModel]:
    return {name: StoredModel.of(model) for name, model in models.items()}
