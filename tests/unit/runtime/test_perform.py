"""What an action checks in the moment before it acts: races that no real server plays on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from msgspec.structs import replace

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.api.meta import ObjectMeta
from podium.api.promotion import ModelPromotion, ModelPromotionSpec, Stage
from podium.cluster.client import KubernetesClient
from podium.cluster.errors import NotLeader
from podium.engine import ledger as ledgers
from podium.engine.decision import MirrorEntry, SetAlias, TransitionStage, WriteClaim
from podium.engine.observation import LedgerState, ModelState, Observation
from podium.registry.errors import AmbiguousWrite, VersionNotFound
from podium.registry.model import RegisteredModel, Version
from podium.runtime.cache import Cache
from podium.runtime.connected import Amendment, Connected
from podium.runtime.perform import PassEndedError, Performer
from podium.runtime.snapshots import Snapshot

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Mlflow:
    """A registry of one model, `churn`, that notes what is written to it."""

    aliases: dict[str, str] = field(default_factory=lambda: {"champion": "6"})
    tags: dict[str, str] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=lambda: {"6": "Production", "7": "None"})
    unready: str = ""
    failing: Exception | None = None
    written: list[tuple[str, ...]] = field(default_factory=list)
    outdated_at: list[str] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list)

    async def get_model(self, name: str) -> RegisteredModel:
        return RegisteredModel(name=name, aliases=self.aliases, tags=self.tags, latest_versions=())

    async def get_version(self, name: str, version: str) -> Version:
        if version not in self.stages:
            raise VersionNotFound(f"no version {version}")
        return Version(
            name=name,
            version=version,
            stage=self.stages[version],
            status="PENDING_REGISTRATION" if version == self.unready else "READY",
            source="",
            run_id=None,
            tags={},
            created_at=NOW,
            updated_at=NOW,
        )

    def _note(self, *what: str) -> None:
        self.written.append(what)
        if self.failing is not None:
            raise self.failing

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        self._note("alias", alias, version)

    async def transition_stage(self, name: str, version: str, stage: str) -> Version:
        self._note("stage", version, stage)
        return replace(await self.get_version(name, version), stage=stage)

    async def set_model_tag(self, name: str, key: str, value: str) -> None:
        self._note("model-tag", key)

    async def set_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        if version not in self.stages:
            raise VersionNotFound(f"no version {version}")
        self._note("version-tag", version, key)

    # What of `Connected` an action uses
    capabilities: Any = None

    @property
    def client(self) -> "Mlflow":
        return self

    def outdated(self, model: str) -> None:
        self.outdated_at.append(model)

    def amend(self, model: str, amendment: Amendment) -> None:
        self.amendments.append(amendment)


async def unchanged() -> None:
    """The promotion is as it was."""


async def changed() -> None:
    raise PassEndedError("the promotion changed meanwhile")


def lost(_: float) -> None:
    raise NotLeader("the Lease is somebody else's")


def performer(
    mlflow: Mlflow, guard: Any = unchanged, fence: Callable[[float], None] = lambda _: None
) -> Performer:
    seen = Observation(
        promotion=ModelPromotion(
            metadata=ObjectMeta(name="p", namespace="a"), spec=ModelPromotionSpec(model="churn")
        ),
        cluster_id="c",
        operator_version="0",
        model=ModelState(aliases={"champion": "6"}, tags=dict(mlflow.tags), versions={}),
        ledger=LedgerState(signer="key"),
    )
    return Performer(
        kube=cast(KubernetesClient, None),
        cache=Cache(),
        fence=fence,
        guard=guard,
        seen=seen,
        connected=cast(Connected, mlflow),
    )


MOVE = SetAlias(to="7", expect="6")


async def test_an_alias_where_it_is_expected_is_moved() -> None:
    mlflow = Mlflow()
    await performer(mlflow).perform(MOVE)
    assert mlflow.written == [("alias", "champion", "7")]
    assert mlflow.outdated_at == ["churn"]


@pytest.mark.parametrize(
    "mlflow",
    [
        Mlflow(aliases={"champion": "5"}),
        Mlflow(aliases={}),
        Mlflow(unready="7"),
    ],
    ids=["moved by somebody", "deleted by somebody", "version not READY"],
)
async def test_an_alias_is_not_moved_in_a_world_that_changed(mlflow: Mlflow) -> None:
    with pytest.raises(PassEndedError):
        await performer(mlflow).perform(MOVE)
    assert mlflow.written == []


async def test_an_alias_is_not_moved_to_a_deleted_version() -> None:
    mlflow = Mlflow(stages={"6": "Production"})
    with pytest.raises(VersionNotFound):
        await performer(mlflow).perform(MOVE)
    assert mlflow.written == []


async def test_what_has_happened_already_is_not_done_again() -> None:
    mlflow = Mlflow(aliases={"champion": "7"})
    await performer(mlflow).perform(MOVE)
    assert mlflow.written == []
    assert mlflow.outdated_at == ["churn"], "or the next pass would want the same again"


ENTRY = LedgerEntry(
    seq=3, time=NOW, action=EntryAction.PROMOTED, model="churn", alias="champion", to="7"
)
OTHERS = {"team": "risk"}
ACTIONS = [
    MOVE,
    TransitionStage(version="7", to=Stage.PRODUCTION),
    MirrorEntry(ENTRY),
    WriteClaim(value="mine"),
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: type(a).__name__)
async def test_nothing_is_written_for_a_promotion_that_changed(action: Any) -> None:
    mlflow = Mlflow()
    with pytest.raises(PassEndedError):
        await performer(mlflow, guard=changed).perform(action)
    assert mlflow.written == []


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: type(a).__name__)
async def test_nothing_is_written_without_the_lease(action: Any) -> None:
    mlflow = Mlflow()
    with pytest.raises(NotLeader):
        await performer(mlflow, fence=lost).perform(action)
    assert mlflow.written == []


async def test_after_a_write_that_timed_out_what_was_read_before_is_old() -> None:
    mlflow = Mlflow(failing=AmbiguousWrite("timed out"))
    with pytest.raises(AmbiguousWrite):
        await performer(mlflow).perform(MOVE)
    assert mlflow.outdated_at == ["churn"]


@pytest.mark.parametrize("action", ACTIONS[1:], ids=lambda a: type(a).__name__)
async def test_what_the_server_acknowledged_is_known_without_reading_it_again(action: Any) -> None:
    """But for the alias, on which everything else is built."""
    mlflow = Mlflow(tags=dict(OTHERS))
    await performer(mlflow).perform(action)
    assert not mlflow.outdated_at
    known = Snapshot(
        1.0,
        await mlflow.get_model("churn"),
        {each: await mlflow.get_version("churn", each) for each in mlflow.stages},
        whole_at=1.0,
    )
    for amendment in mlflow.amendments:
        known = amendment(known)
    assert known.model is not None
    tags = {("model-tag", key) for key in known.model.tags.keys() - OTHERS}
    for each in known.versions.values():
        tags |= {("version-tag", each.version, key) for key in each.tags}
        if each.stage != mlflow.stages[each.version]:
            tags.add(("stage", each.version, each.stage))
    assert tags == set(mlflow.written)


@pytest.mark.parametrize("action", [MOVE, MirrorEntry(ENTRY)], ids=lambda a: type(a).__name__)
async def test_nothing_is_written_for_an_alias_that_another_has_claimed_meanwhile(
    action: Any,
) -> None:
    mlflow = Mlflow()
    one = performer(mlflow)
    mlflow.tags[ledgers.owner_tag_key("champion")] = "theirs"
    with pytest.raises(PassEndedError):
        await one.perform(action)
    assert (mlflow.written, mlflow.outdated_at) == ([], ["churn"])


async def test_after_an_entry_nothing_is_built_on_an_alias_that_somebody_moved() -> None:
    mlflow = Mlflow(aliases={"champion": "5"})
    await performer(mlflow).perform(MirrorEntry(ENTRY))
    assert len(mlflow.written) == 2
    assert mlflow.outdated_at == ["churn"]


async def test_the_entry_is_written_before_the_head() -> None:
    mlflow = Mlflow()
    await performer(mlflow).perform(MirrorEntry(ENTRY))
    assert mlflow.written == [
        ("version-tag", "7", ledgers.entry_tag_key("champion", 3)),
        ("model-tag", ledgers.head_tag_key("champion")),
    ]


async def test_an_entry_about_a_deleted_version_goes_to_the_model() -> None:
    mlflow = Mlflow(stages={})
    await performer(mlflow).perform(MirrorEntry(ENTRY))
    assert mlflow.written[0] == ("model-tag", ledgers.entry_tag_key("champion", 3))


async def test_a_head_never_goes_back() -> None:
    newer = LedgerEntry(
        seq=4, time=NOW, action=EntryAction.HELD, model="churn", alias="champion", hash="h"
    )
    mlflow = Mlflow(
        tags={
            ledgers.head_tag_key("champion"): ledgers.encode_head(
                newer, LedgerState(signer="key"), None
            )
        }
    )
    await performer(mlflow).perform(MirrorEntry(ENTRY))
    assert mlflow.written == []


async def test_a_claim_that_changed_since_it_was_seen_is_left() -> None:
    mlflow = Mlflow()
    ready = performer(mlflow)
    mlflow.tags[ledgers.owner_tag_key("champion")] = "somebody else's"
    with pytest.raises(PassEndedError):
        await ready.perform(WriteClaim(value="mine"))
    assert mlflow.written == []
