"""The poll of one MLflow: what it asks, what it keeps, whom it wakes, and its patience."""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import msgspec
import pytest
from msgspec.structs import replace

from podium.api.meta import ObjectMeta
from podium.api.model_registry import ModelRegistry, ModelRegistrySpec
from podium.api.reasons import Reason
from podium.api.values import Duration
from podium.registry import wire
from podium.registry.client import RegistryClient
from podium.registry.errors import RegistryThrottled, RegistryUnavailable
from podium.registry.model import Capabilities, RegisteredModel, Version
from podium.registry.stored import StoredModel, digest_of
from podium.runtime.connected import Amendment, Connected, Wanted
from podium.runtime.snapshots import Snapshot, Snapshots, whole

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ABLE = Capabilities(
    server_version="3.17.2",
    aliases=True,
    stages=True,
    webhooks=True,
    name_in=True,
    versions_name_in=True,
    workspaces=False,
    logged_models=True,
)


def version(number: str, **tags: str) -> Version:
    return Version(
        name="m",
        version=number,
        stage="None",
        status="READY",
        source="",
        run_id=None,
        tags=tags,
        created_at=NOW,
        updated_at=NOW,
    )


def model(name: str, newest: str = "2", **aliases: str) -> RegisteredModel:
    return RegisteredModel(name=name, aliases=aliases, tags={}, latest_versions=(version(newest),))


@dataclass
class Mlflow:
    """Models by name, each with versions 1 and 2; notes what it is asked. `during` runs in the
    middle of the search for versions."""

    models: dict[str, RegisteredModel]
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    error: Exception | None = None
    during: object = None
    portion: int = 100
    decoded: list[str] = field(default_factory=list)

    async def capabilities(self) -> Capabilities:
        return ABLE

    async def search_portions(
        self, names: Sequence[str]
    ) -> AsyncIterator[tuple[Sequence[str], Mapping[str, StoredModel]]]:
        for start in range(0, len(names), self.portion):
            portion = names[start : start + self.portion]
            self.asked.append(("models", tuple(portion)))
            if self.error is not None:
                raise self.error
            yield portion, {name: self._stored(name) for name in portion if name in self.models}

    def _stored(self, name: str) -> StoredModel:
        def decode() -> RegisteredModel:
            self.decoded.append(name)
            return self.models[name]

        return StoredModel(name, digest_of(msgspec.json.encode(self.models[name])), decode)

    async def search_versions_of(self, names: Sequence[str]) -> Mapping[str, list[Version]]:
        self.asked.append(("versions", tuple(names)))
        if callable(self.during):
            self.during()
        return {name: [version("1"), version("2")] for name in names}

    async def get_model(self, name: str) -> RegisteredModel:
        return self.models[name]

    async def search_versions(self, name: str) -> list[Version]:
        return [version("1"), version("2")]

    async def close(self) -> None: ...


class Poll:
    """A `Connected` that polls when told, and what it told to whom."""

    def __init__(self, mlflow: Mlflow, *wanted: Wanted) -> None:
        self.mlflow = mlflow
        self.wanted = list(wanted)
        self.changed: list[str | None] = []
        self.pending_when_told: list[bool] = []
        registry = ModelRegistry(
            metadata=ObjectMeta(name="r", namespace="a"),
            spec=ModelRegistrySpec(tracking_uri="http://mlflow", poll_interval=Duration(10)),
        )
        self.connected = Connected(
            registry,
            cast(RegistryClient, mlflow),
            lambda: self.wanted,
            self._told,
            random.Random(1),
        )

    def _told(self, name: str | None) -> None:
        self.changed.append(name)
        self.pending_when_told.append(self.connected.pending)

    async def __call__(self) -> list[str | None]:
        """Whom one poll woke."""
        self.changed.clear()
        await self.connected._poll()
        return list(self.changed)


def some(count: int, all_versions: bool) -> list[Wanted]:
    return [Wanted(f"m{number}", all_versions) for number in range(count)]


async def test_a_poll_asks_for_models_only_and_selectors_by_tag_for_versions_too() -> None:
    mlflow = Mlflow({f"m{n}": model(f"m{n}") for n in range(3)})
    poll = Poll(mlflow, Wanted("m0", False), Wanted("m1", True), Wanted("m2", True))
    await poll()
    assert mlflow.asked == [("models", ("m0", "m1", "m2")), ("versions", ("m1", "m2"))]
    assert await poll() == []


async def test_an_alias_that_moved_wakes_its_model_alone() -> None:
    mlflow = Mlflow({f"m{n}": model(f"m{n}") for n in range(3)})
    poll = Poll(mlflow, *some(3, all_versions=False))
    await poll()
    mlflow.models["m1"] = model("m1", champion="1")
    mlflow.asked.clear()
    assert await poll() == ["m1"]
    assert mlflow.asked[1:] == [("versions", ("m1",))]
    known = poll.connected.snapshot("m1")
    assert known is not None and known.complete and set(known.versions) == {"1", "2"}


def signed(seq: int) -> RegisteredModel:
    """A model whose ledger ends there."""
    return replace(model("m0", champion="1"), tags={"podium.dev/head/0123456789abcdef": str(seq)})


async def test_a_tag_of_podium_that_a_late_request_set_back_is_found_by_the_poll() -> None:
    """The old leader's request, delayed by the network until the next one had finished: nothing
    but the poll would ever tell."""
    mlflow = Mlflow({"m0": signed(7)})
    poll = Poll(mlflow, Wanted("m0", False))
    await poll()
    assert await poll() == []
    mlflow.models["m0"] = signed(6)
    assert await poll() == ["m0"]
    assert await poll() == []


async def test_what_podium_itself_wrote_wakes_nobody() -> None:
    mlflow = Mlflow({"m0": signed(7)})
    poll = Poll(mlflow, Wanted("m0", False))
    await poll()
    mlflow.models["m0"] = signed(8)
    poll.connected.outdated("m0")
    assert await poll() == [], "the pass that wrote is followed by one that reads"
    mlflow.models["m0"] = signed(9)
    poll.connected.outdated("m0")
    await poll.connected.read("m0")
    assert await poll() == []


async def test_versions_that_are_read_for_the_first_time_are_no_news() -> None:
    """At first sight a poll takes the newest of each stage; each promotion's first read of the
    others woke it once more."""
    poll = Poll(Mlflow({"m0": model("m0", champion="2")}), Wanted("m0", False))
    await poll()
    known = poll.connected.snapshot("m0")
    assert known is not None and not known.complete
    poll.changed.clear()
    await poll.connected.read("m0")
    assert poll.changed == []
    poll.mlflow.models["m0"] = model("m0", champion="1")
    await poll.connected.read("m0")
    assert poll.changed == ["m0"]


async def acknowledged(poll: Poll, amendment: Amendment) -> Snapshot | None:
    """What is known of m0 after one such write, and whom it woke."""
    await poll.connected.read("m0")
    poll.changed.clear()
    poll.connected.amend("m0", amendment)
    return poll.connected.snapshot("m0")


async def test_after_an_acknowledged_write_the_model_is_known_with_it() -> None:
    mlflow = Mlflow({"m0": signed(7)})
    poll = Poll(mlflow, Wanted("m0", False))
    known = await acknowledged(poll, lambda known: known.with_version_tag("2", "k", "v"))
    assert known is not None and known.complete
    assert (known.versions["1"].tags, known.versions["2"].tags) == ({}, {"k": "v"})
    assert known.model is not None and known.model.latest_versions == (known.versions["2"],)
    head = "podium.dev/head/0123456789abcdef"
    known = await acknowledged(poll, lambda known: known.with_model_tag(head, "8"))
    assert known is not None and known.model is not None and known.model.tags == {head: "8"}
    assert poll.changed == [], "own tags are no news"


async def test_a_stage_that_podium_moved_is_told_to_others_of_the_model() -> None:
    poll = Poll(Mlflow({"m0": signed(7)}), Wanted("m0", False))
    moved = replace(version("2"), stage="Staging")
    known = await acknowledged(poll, lambda known: known.with_stage(moved))
    assert known is not None and known.model is not None
    assert poll.changed == ["m0"]
    stages = {each.stage: each.version for each in known.model.latest_versions}
    assert stages == {"None": "1", "Staging": "2"}


async def test_what_was_asked_for_before_a_write_is_asked_for_again() -> None:
    """It may show what somebody else did meanwhile, or it may lack the write: neither is to be
    believed, nor to be forgotten until the next poll."""
    mlflow = Mlflow({"m0": signed(7)})
    poll = Poll(mlflow, Wanted("m0", True))
    await poll()
    mlflow.during = lambda: poll.connected.amend(
        "m0", lambda known: known.with_model_tag("podium.dev/own", "1")
    )
    assert await poll() == ["m0"]
    assert poll.connected.snapshot("m0") is None
    mlflow.during = None
    await poll.connected.read("m0")
    assert await poll() == []


def test_the_newest_of_each_stage_are_in_the_order_in_which_mlflow_is_read() -> None:
    """Or each write of ours would look like a change of somebody's."""
    versions = [version("2"), replace(version("3"), stage="Production"), version("4")]
    newest = tuple(versions[1:])
    known = whole(1.0, replace(model("m0"), latest_versions=newest), versions)
    after = known.with_version_tag("4", "podium.dev/champion/phase", "Promoting")
    assert after.model is not None
    assert [each.version for each in after.model.latest_versions] == ["3", "4"]


async def test_a_write_makes_nothing_believed_that_was_old() -> None:
    poll = Poll(Mlflow({"m0": signed(7)}), Wanted("m0", True))
    await poll.connected.read("m0")
    poll.connected.outdated("m0")
    poll.connected.amend("m0", lambda known: known.with_model_tag("own", "1"))
    assert poll.connected.snapshot("m0") is None


async def test_nor_does_it_count_as_a_read() -> None:
    """A turn asks for what was read since it began: a write to what a poll found an interval ago
    is none."""
    poll = Poll(Mlflow({"m0": signed(7)}), Wanted("m0", True))
    await poll()
    before = poll.connected.snapshot("m0")
    poll.connected.amend("m0", lambda known: known.with_model_tag("own", "1"))
    after = poll.connected.snapshot("m0")
    assert before and after and after.read_at == before.read_at < after.as_of


async def test_a_poll_of_the_newest_versions_does_not_count_as_a_read_of_all() -> None:
    poll = Poll(Mlflow({"m0": signed(7)}), Wanted("m0", False))
    read = await poll.connected.read("m0")
    await poll()
    polled = poll.connected.snapshot("m0")
    assert polled and polled.complete and read.read_at == polled.whole_at < polled.read_at


async def test_nobody_is_woken_before_the_poll_counts() -> None:
    """A pass that sees `pending` ends and waits to be told: told too early, it waited for ever."""
    poll = Poll(Mlflow({"m0": model("m0"), "m1": model("m1")}), *some(2, all_versions=True))
    assert await poll() == [None]
    assert poll.pending_when_told == [False]


async def test_the_first_poll_wakes_also_who_came_while_it_ran() -> None:
    """A promotion of a model that does not exist had no status until the second poll."""
    poll = Poll(Mlflow({}))
    assert await poll() == [None]
    assert await poll() == []


async def test_a_write_in_mid_poll_leaves_no_older_state_believed() -> None:
    mlflow = Mlflow({"m0": model("m0", champion="1")})
    poll = Poll(mlflow, Wanted("m0", True))
    mlflow.during = lambda: poll.connected.outdated("m0")
    await poll()
    assert poll.connected.snapshot("m0") is None


async def test_what_no_promotion_wants_any_more_is_forgotten() -> None:
    poll = Poll(Mlflow({"m0": model("m0")}), *some(1, all_versions=False))
    await poll()
    poll.connected.outdated("m0")
    poll.wanted = []
    await poll()
    assert (len(poll.connected._snapshots), poll.connected._written) == (0, {})


async def test_the_same_trouble_in_other_words_is_told_once() -> None:
    """A text that changes with each try would be a write to the status of each promotion."""
    poll = Poll(Mlflow({}))
    for seconds in (9, 8, 7):
        poll.connected.failed(RegistryUnavailable(f"asked again in {seconds} s"))
    assert poll.changed == [None]
    first = poll.connected.problem
    assert first is not None and "9 s" in first.message
    poll.connected.failed(RegistryThrottled("429", retry_after=1))
    assert poll.changed == [None, None]
    assert poll.connected.problem.reason is Reason.REGISTRY_THROTTLED  # type: ignore[union-attr]


@pytest.mark.parametrize("asked", [7.0, 40.0, 200.0])
async def test_the_next_poll_waits_for_as_long_as_the_server_asked(
    asked: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    poll = Poll(Mlflow({}))
    poll.connected.failed(RegistryThrottled("429", retry_after=asked))
    poll.connected.poll_soon()  # a hint does not make it impatient
    monkeypatch.setattr("podium.runtime.connected.asyncio.sleep", sleep)
    await poll.connected._until_due()
    assert len(slept) == 1 and asked - 1 < slept[0] <= asked * 1.1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited for between polls, in seconds; the wait is over at once."""
    waited: list[float] = []

    @contextlib.asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        waited.append(seconds)
        raise TimeoutError
        yield

    monkeypatch.setattr("podium.runtime.connected.asyncio.timeout", timeout)
    return waited


async def test_an_unwell_server_is_polled_less_and_less(pauses: list[float]) -> None:
    poll = Poll(Mlflow({}))
    poll.connected._polls = 2
    for _ in range(6):
        await poll.connected._until_due()
        poll.connected.failed(RegistryUnavailable("away"))
    expected = [10, 20, 40, 80, 120, 120]
    assert all(0.9 * e <= p <= e for p, e in zip(pauses, expected, strict=True)), pauses
    assert len({p / e for p, e in zip(pauses, expected, strict=True)}) == 6, "no jitter"


async def test_one_that_is_closed_in_the_moment_of_a_hint_ends() -> None:
    poll = Poll(Mlflow({}))
    poll.connected.start()
    await asyncio.sleep(0)
    poll.connected.poll_soon()
    await asyncio.wait_for(poll.connected.close(), 5)


async def test_the_snapshot_keeps_no_description() -> None:
    said = msgspec.json.encode(
        {
            "name": "m0",
            "description": "x" * 100_000,
            "tags": [{"key": "team", "value": "risk"}],
            "latest_versions": [{"name": "m0", "version": "1", "description": "x" * 100_000}],
        }
    )
    decoded = wire.model_from(msgspec.json.decode(said, type=wire.WireModel))
    poll = Poll(Mlflow({"m0": decoded}), Wanted("m0", False))
    await poll()
    known = poll.connected.snapshot("m0")
    assert known is not None and known.model is not None
    assert known.model.tags == {"team": "risk"}
    assert len(repr(known)) < 2_000


async def test_what_is_kept_of_a_model_is_what_was_read() -> None:
    poll = Poll(Mlflow({"m0": model("m0", champion="1")}))
    read = await poll.connected.read("m0")
    assert poll.connected.snapshot("m0") == read
    assert (await poll.connected.read("m0")).model == model("m0", champion="1")


async def test_a_model_with_a_long_ledger_takes_two_kilobytes_not_ten() -> None:
    """Ten thousand of them were 125 MB."""
    entries = {
        f"podium.dev/ledger/0123456789abcdef/{seq}": json.dumps(
            {
                **dict.fromkeys(("action", "model", "alias", "from", "to", "reason"), "champion"),
                "hash": hashlib.sha256(bytes([seq])).hexdigest(),
                "previous": hashlib.sha256(bytes([seq, 1])).hexdigest(),
                "signature": base64.b64encode(hashlib.sha512(bytes([seq])).digest()).decode(),
            }
        )
        for seq in range(6)
    }
    long = replace(model("m0"), latest_versions=(version("2", **entries),))
    snapshots = Snapshots()
    snapshots.put("m0", Snapshot(0.0, long, {"2": version("2", **entries)}, whole_at=0.0))
    assert len(str(entries)) > 1_800
    assert sum(len(packed.content) for packed in snapshots._packed.values()) < 2_000


async def test_each_portion_is_told_before_the_next_is_asked_for() -> None:
    """Of ten thousand models the first waited for the last: ten seconds."""
    mlflow = Mlflow({f"m{n}": model(f"m{n}") for n in range(4)}, portion=2)
    poll = Poll(mlflow, *some(4, all_versions=False))
    assert await poll() == [None]
    mlflow.models["m0"] = model("m0", champion="1")
    mlflow.models["m3"] = model("m3", champion="1")
    mlflow.asked.clear()
    told_after: dict[str | None, int] = {}
    poll.connected._changed = lambda name: told_after.update({name: len(mlflow.asked)})
    await poll()
    asked = ["m0 m1", "m0", "m2 m3", "m3"]
    assert [" ".join(names) for _, names in mlflow.asked] == asked
    assert told_after == {"m0": 2, "m3": 4}


async def test_what_the_server_writes_as_before_is_not_decoded_again() -> None:
    mlflow = Mlflow({f"m{n}": model(f"m{n}") for n in range(3)})
    poll = Poll(mlflow, *some(3, all_versions=False))
    await poll()
    mlflow.decoded.clear()
    mlflow.models["m1"] = model("m1", champion="1")
    assert await poll() == ["m1"]
    assert mlflow.decoded == ["m1"]
    before = poll.connected.snapshot("m0")
    await poll()
    after = poll.connected.snapshot("m0")
    assert before and after and after.read_at > before.read_at, "but it was seen again"


async def test_what_is_as_at_the_last_poll_but_not_as_a_pass_read_it_is_news() -> None:
    """Moved and moved back between two polls, and a pass saw it moved."""
    mlflow = Mlflow({"m0": model("m0", champion="1")})
    poll = Poll(mlflow, Wanted("m0", False))
    await poll()
    mlflow.models["m0"] = model("m0", champion="2")
    await poll.connected.read("m0")
    mlflow.models["m0"] = model("m0", champion="1")
    assert await poll() == ["m0"]
    known = poll.connected.snapshot("m0")
    assert known is not None and known.model is not None
    assert known.model.aliases == {"champion": "1"}


@pytest.mark.parametrize(("took", "pause"), [(0.0, 10.0), (4.0, 6.0), (9.8, 2.5), (60.0, 15.0)])
async def test_polls_begin_no_more_than_an_interval_apart_and_a_slow_server_has_a_pause(
    took: float, pause: float, pauses: list[float]
) -> None:
    poll = Poll(Mlflow({}))
    poll.connected._polls, poll.connected._poll_took = 2, took
    await poll.connected._until_due()
    assert pause - 1.0 <= pauses[0] <= pause


@pytest.mark.parametrize(("took", "left"), [(0.0, 10.0), (4.0, 6.0), (9.0, 2.25)])
async def test_the_second_polls_of_registries_that_start_together_are_spread(
    took: float, left: float, pauses: list[float]
) -> None:
    """Ten ModelRegistries of one server had each other's models wait at every poll. All first
    polls take long, as they are asked for together: none of the second is due at once for that."""
    poll = Poll(Mlflow({}))
    poll.connected._polls, poll.connected._poll_took = 1, took
    for _ in range(40):
        await poll.connected._until_due()
    assert 0 <= min(pauses) < 0.2 * left and 0.8 * left < max(pauses) <= left
    assert len({round(pause / left, 3) for pause in pauses}) > 35


async def test_an_error_that_nobody_expected_is_told_and_not_waited_for_in_silence() -> None:
    mlflow = Mlflow({}, error=TypeError("a bug"))
    poll = Poll(mlflow, Wanted("m0", False))
    poll.connected.start()
    await asyncio.sleep(0.01)
    assert not poll.connected.pending
    assert poll.changed == [None]
    assert "unexpected TypeError" in str(poll.connected.problem)
    await poll.connected.close()
