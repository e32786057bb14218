"""The harness itself: each fault does what its name says, and each check can fail. No servers
but two small ones on loopback."""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import msgspec
import pytest
from aiohttp import web

from podium.api.ledger_entry import EntryAction, LedgerEntry
from podium.engine import attempts, ledger
from podium.runtime.perform import Performer
from podium.runtime.reconciler import Reconciler
from tests.faults import __main__ as faults
from tests.faults import harness, invariants
from tests.faults import proxy as proxies
from tests.faults.__main__ import Run, arguments, play, verdict
from tests.faults.breaks import BREAKS, broken
from tests.faults.calls import Asked, Call, System
from tests.faults.containers import Containers
from tests.faults.fault import Fault, faults_of
from tests.faults.harness import Outcome
from tests.faults.invariants import Watch
from tests.faults.process import SEAT_HEADER
from tests.faults.proxy import Proxy
from tests.faults.relay import Servers
from tests.faults.results import Case, Recording, Result, Results, Word, grouped, summary
from tests.faults.schedules import __main__ as schedules
from tests.faults.schedules.__main__ import Told, Total
from tests.faults.stories import STORIES
from tests.faults.world import State, World

ALIAS = "/api/2.0/mlflow/registered-models/alias"
GET = "/api/2.0/mlflow/registered-models/get"
DEPLOYMENT = "/apis/apps/v1/namespaces/n/deployments/api"
STATUS = "/apis/podium.dev/v1alpha1/namespaces/n/modelpromotions/p/status"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/n/leases/podium-operator"
SET_ALIAS = Call(System.MLFLOW, "post registered-models/alias 2", True, "", 1)
READ_MODEL = Call(System.MLFLOW, "get registered-models/get", False, "", 2)
ONE = frozenset({SET_ALIAS})  # any call: that one fired
WRITE_STATUS = Call(System.KUBERNETES, "update modelpromotions/status", True, "", 1)


@dataclass
class Upstream:
    """Both servers: writes down what reaches it, and counts its answers."""

    reached: list[str] = field(default_factory=list)
    answers: int = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.answers += 1
        self.reached.append(f"{request.method} {request.path}")
        holder = json.loads(body or b"{}").get("holder", "")
        return web.json_response({"number": self.answers, "spec": {"holderIdentity": holder}})


@dataclass
class Hands:
    """What the proxy asks of a trial, written down."""

    did: list[str] = field(default_factory=list)
    sent: list[tuple[str, str | None, float | None]] = field(default_factory=list)

    async def kill(self) -> None:
        self.did.append("kill")

    async def pause(self) -> None:
        self.did.append("pause")

    async def resume(self) -> None:
        self.did.append("resume")

    async def delete(self) -> None:
        self.did.append("delete")

    async def sends(self, asked: Asked, seat: str, leader: str | None, away: float | None) -> None:
        self.sent.append((seat, leader, away))

    async def wrote(self, asked: Asked, late: bool) -> None:
        self.did.append(f"wrote {asked.name}")


@dataclass
class Scene:
    proxy: Proxy
    upstream: Upstream
    hands: Hands
    session: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: Any = None, seat: str = "seat1"
    ) -> int | None:
        """The number of the answer; None: none came."""
        base = self.proxy.mlflow if "/mlflow/" in path else self.proxy.kubernetes
        headers = {"User-Agent": "podium-operator", SEAT_HEADER: seat}
        try:
            async with self.session.request(
                method, base + path, json=body, headers=headers
            ) as answer:
                return int((await answer.json()).get("number", answer.status))
        except (aiohttp.ClientError, json.JSONDecodeError):
            return None

    async def set_alias(self) -> int | None:
        return await self.ask("POST", ALIAS, {"version": "2"})

    async def leads(self, seat: str) -> None:
        await self.ask("PATCH", LEASE, {"holder": f"{seat}_ab"}, seat)


@contextlib.asynccontextmanager
async def scene(fault: Fault, *at: Call) -> AsyncIterator[Scene]:
    upstream, hands = Upstream(), Hands()
    async with contextlib.AsyncExitStack() as stack:
        runner = web.ServerRunner(web.Server(upstream.answer))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        uri = f"http://127.0.0.1:{runner.addresses[0][1]}"
        servers = Servers(cast(Any, SimpleNamespace(server=uri, tls=None)), "", uri)
        proxy = await stack.enter_async_context(Proxy(servers, hands, at, fault))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        session._retry_connection = False
        proxy.arm()
        yield Scene(proxy, upstream, hands, session)


@pytest.mark.parametrize(
    ("fault", "answer", "effects", "did"),
    [
        (Fault.KILL_BEFORE, None, 0, ["kill"]),
        (Fault.KILL_AFTER, None, 1, ["wrote post registered-models/alias 2", "kill"]),
        (Fault.LOST, None, 1, ["wrote post registered-models/alias 2"]),
        (Fault.HANG, None, 1, ["wrote post registered-models/alias 2"]),
        (Fault.BROKEN, None, 1, ["wrote post registered-models/alias 2"]),
        (Fault.THROTTLED, 429, 0, []),
        (Fault.ERROR, 500, 0, []),
        (Fault.CONFLICT, 409, 0, []),
    ],
)
async def test_a_broken_call(
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    answer: int | None,
    effects: int,
    did: list[str],
) -> None:
    monkeypatch.setattr(proxies, "HANG_SECONDS", 0.1)
    async with scene(fault, SET_ALIAS) as there:
        assert await there.set_alias() == answer
        assert len(there.upstream.reached) == effects
        assert there.hands.did == did
        assert there.proxy.fired
        assert await there.set_alias() == effects + 1, "only the first is broken"


async def test_a_few_calls_are_broken() -> None:
    again = replace(SET_ALIAS, nth=3)
    async with scene(Fault.ERROR, SET_ALIAS, again, READ_MODEL) as there:
        assert [await there.set_alias() for _ in range(4)] == [500, 1, 500, 2]
        assert there.proxy.fired == {SET_ALIAS, again}


async def test_a_delayed_call_takes_effect_after_the_next_operator_wrote() -> None:
    async with scene(Fault.DELAYED, SET_ALIAS) as there:
        await there.leads("seat1")
        assert await there.set_alias() is None
        assert (there.hands.did, there.upstream.reached) == (["kill"], [f"PATCH {LEASE}"])
        await there.ask("PATCH", DEPLOYMENT, {})  # of the same operator: it was on its way
        await there.leads("seat2")
        await asyncio.sleep(0.1)
        assert there.proxy.holds_back() and not there.proxy.fired
        await there.ask("PATCH", DEPLOYMENT, {}, "seat2")
        await there.proxy.delivered()
        deployment = f"PATCH {DEPLOYMENT}"
        assert there.upstream.reached[2:] == [f"PATCH {LEASE}", deployment, f"POST {ALIAS}"]
        assert there.proxy.fired == ONE


async def test_a_delayed_call_waits_for_no_operator_that_has_nothing_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxies, "ACTS_SECONDS", 0.1)
    async with scene(Fault.DELAYED, SET_ALIAS) as there:
        await there.set_alias()
        await there.leads("seat2")
        await there.proxy.delivered()
        assert there.proxy.fired == ONE


async def test_a_delayed_call_has_not_fired_when_nobody_leads_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxies, "LEADS_SECONDS", 0.1)
    async with scene(Fault.DELAYED, SET_ALIAS) as there:
        await there.leads("seat1")
        await there.set_alias()
        await there.proxy.delivered()
        assert there.upstream.reached[-1] == f"POST {ALIAS}"
        assert not there.proxy.fired


async def test_a_late_call_takes_effect_when_all_is_at_rest() -> None:
    async with scene(Fault.LATE, SET_ALIAS) as there:
        await there.set_alias()
        await there.ask("PATCH", DEPLOYMENT, {})
        await asyncio.sleep(0.05)
        assert there.proxy.holds_late()
        assert there.upstream.reached == [f"PATCH {DEPLOYMENT}"]
        await there.proxy.release()
        assert there.upstream.reached == [f"PATCH {DEPLOYMENT}", f"POST {ALIAS}"]
        assert [asked.name for asked in there.proxy.late] == [SET_ALIAS.name]
        assert not await there.proxy.writes_beyond(2, 0.05)
        assert await there.proxy.writes_beyond(1, 0.05)


async def test_late_calls_take_effect_one_after_the_other() -> None:
    async with scene(Fault.LATE, SET_ALIAS, WRITE_STATUS) as there:
        await there.set_alias()
        await there.ask("PUT", STATUS, {})
        for reached in ([f"POST {ALIAS}"], [f"POST {ALIAS}", f"PUT {STATUS}"]):
            assert there.proxy.holds_late()
            await there.proxy.release()
            assert there.upstream.reached == reached
        assert not there.proxy.holds_late()


async def test_a_paused_operators_call_takes_effect_beside_the_next() -> None:
    async with scene(Fault.PAUSED, SET_ALIAS) as there:
        paused = asyncio.create_task(there.set_alias())
        async with asyncio.timeout(10):
            while not there.hands.did:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (there.hands.did, there.upstream.reached) == (["pause"], [])
        await there.leads("seat2")
        assert not there.proxy.fired
        await there.ask("PATCH", DEPLOYMENT, {}, "seat2")
        assert await paused == 3
        assert there.hands.did[-1] == "resume"
        assert there.proxy.fired == ONE


async def test_an_old_answer_is_one_that_was_given_before() -> None:
    async with scene(Fault.STALE, READ_MODEL) as there:
        assert await there.ask("GET", GET) == 1
        assert await there.ask("GET", GET) == 1
        assert there.proxy.fired
        assert await there.ask("GET", GET) == 3


async def test_mlflow_is_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "AWAY_SECONDS", 0.3)
    async with scene(Fault.KILL_AWAY, SET_ALIAS) as there:
        assert await there.set_alias() is None
        assert there.upstream.reached == [f"POST {ALIAS}"]
        assert await there.ask("GET", GET) is None
        assert await there.ask("PATCH", DEPLOYMENT, {}) == 2
        assert (there.hands.sent[-1][2] or 0) > 0, "a target changed while MLflow was away"
        await asyncio.sleep(0.4)
        assert await there.ask("GET", GET) == 3


async def test_while_mlflow_is_away_it_does_not_go_away_again() -> None:
    async with scene(Fault.AWAY, SET_ALIAS, WRITE_STATUS) as there:
        assert await there.set_alias() == 1
        assert await there.ask("PUT", STATUS, {}) == 2
        assert there.proxy.fired == ONE, "the other is to be played alone"


async def test_a_new_operator_lists_the_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "LAG_SECONDS", 0.2)
    promotions = STATUS.removesuffix("/p/status")
    async with scene(Fault.LAGGING, WRITE_STATUS) as there:
        assert await there.ask("PUT", STATUS, {}) == 1
        assert await there.ask("GET", promotions) == 3
        assert there.proxy.shows_the_past()
        lagging = asyncio.create_task(there.proxy.lag())
        await asyncio.sleep(0.3)  # until it is looked at
        assert not there.proxy.fired
        assert await there.ask("GET", promotions) == 2, "as it was after the call"
        assert there.proxy.fired == {WRITE_STATUS}
        assert await there.ask("GET", promotions + "/p") == 4, "one promotion is never old"
        await lagging
        assert await there.ask("GET", promotions) == 5


async def test_a_promotion_is_deleted_before_the_answer_comes() -> None:
    async with scene(Fault.DELETED, SET_ALIAS) as there:
        assert await there.set_alias() == 1
        assert there.hands.did == [f"wrote {SET_ALIAS.name}", "delete"]
        assert there.proxy.deleted.is_set()


async def test_the_proxy_tells_who_writes_and_who_leads() -> None:
    async with scene(Fault.LOST, SET_ALIAS) as there:
        await there.ask("PATCH", DEPLOYMENT, {})
        await there.ask("POST", LEASE.rpartition("/")[0], {"holder": "seat1_ab"})
        await there.ask("PATCH", DEPLOYMENT, {})
        await there.ask("PATCH", LEASE, {"holder": "seat2_cd"})
        await there.ask("PATCH", DEPLOYMENT, {})
        assert [sent[:2] for sent in there.hands.sent] == [
            ("seat1", None),
            ("seat1", "seat1"),
            ("seat1", "seat2"),
        ]


def watch() -> Watch:
    return Watch(cast(World, None), STORIES["rejected"])


def test_only_the_holder_of_the_lease_may_write() -> None:
    asked = Asked(System.MLFLOW, "post registered-models/alias 2", True, "registered-models/alias")
    fine, wrong, nobody = watch(), watch(), watch()
    fine.sends(asked, "seat1", "seat1", None)
    wrong.sends(asked, "seat1", "seat2", None)
    nobody.sends(asked, "seat1", None, None)
    assert not fine.violations
    assert "I7: seat1 writes while seat2 holds the Lease" in wrong.violations[0]
    assert "I7" in nobody.violations[0]


def test_no_target_may_change_while_mlflow_is_away() -> None:
    target = Asked(System.KUBERNETES, "patch deployments 2", True, "deployments", "2")
    status = Asked(System.KUBERNETES, "update modelpromotions/status", True, "x")
    there = watch()
    there.sends(target, "seat1", "seat1", None)
    there.sends(target, "seat1", "seat1", 0.0)  # a pass that had seen all
    there.sends(status, "seat1", "seat1", 2.0)
    assert not there.violations
    there.sends(target, "seat1", "seat1", 2.0)
    assert "I4: a target changes while MLflow is away" in there.violations[0]


def test_the_alias_may_not_move_to_what_is_in_quarantine() -> None:
    status = {"quarantined": [{"version": "2"}]}
    there, seen = watch(), replace(state("1"), promotion={"status": status})
    there.moves_to("1", seen)
    assert not there.violations
    there.moves_to("2", seen)
    assert there.violations == ["I3: the alias is moved to 2, which is in quarantine"]


@pytest.mark.parametrize("late", [False, True])
def test_an_entry_may_be_rewritten_once_and_only_if_it_came_after_its_status_was_lost(
    late: bool,
) -> None:
    asked = Asked(System.MLFLOW, "post registered-models/set-tag", True, "x")
    now = replace(state("1"), promotion={"status": {}})
    there = Watch(cast(World, SimpleNamespace(state=lambda: now)), STORIES["rolled-back-in-baking"])
    there.begin()
    for by in ("who was killed", "the next leader", "a third"):
        entry = json.dumps({"alias": "champion", "seq": 3, "hash": by})
        now = replace(now, model={"tags": [{"key": "podium.dev/ledger/3", "value": entry}]})
        if late and by == "who was killed":
            there.came_late()
        there.wrote(asked, late)
    assert len(there.violations) == (1 if late else 2)
    assert "I6: entry 3 of champion was rewritten" in there.violations[0]


def test_the_chain_is_looked_at_after_each_write() -> None:
    asked = Asked(System.MLFLOW, "post registered-models/set-tag", True, "x")
    known = LedgerEntry(
        seq=1, time=datetime.now(UTC), action=EntryAction.ADOPTED, model="m", alias="champion"
    )
    for hashed, says in ((ledger.entry_hash(known), []), ("another", ["was changed after"])):
        text = ledger.encode_entry(msgspec.structs.replace(known, hash=hashed))
        tag = {"key": ledger.entry_tag_key("champion", 1), "value": text}
        promotion = {"spec": {"model": "m"}, "status": {}}
        now = replace(state("1"), promotion=promotion, model={"tags": [tag]})
        there = Watch(cast(World, SimpleNamespace(state=lambda now=now: now)), STORIES["rejected"])
        there.begin()
        there.wrote(asked, late=False)
        assert len(there.violations) == len(says)
        assert all(each in there.violations[0] for each in says)


def test_an_entry_that_names_none_before_it_is_no_part_of_a_chain() -> None:
    """The operator's own check takes what follows on a gap; here there is none."""
    first = LedgerEntry(
        seq=1, time=datetime.now(UTC), action=EntryAction.ADOPTED, model="m", alias="champion"
    )
    first = msgspec.structs.replace(first, hash=ledger.entry_hash(first))
    for previous, says in ((first.hash, []), (None, ["I6: entry 2 does not name the one before"])):
        second = msgspec.structs.replace(first, seq=2, previous=previous)
        second = msgspec.structs.replace(second, hash=ledger.entry_hash(second))
        found = ledger.check(
            ledger.LedgerState(head_seq=2, head_hash=second.hash, entries=(first, second))
        )
        assert (found.trouble, invariants._unlinked(found)) == (None, says)


def test_nothing_may_move_for_a_deleted_promotion() -> None:
    asked = Asked(System.MLFLOW, "post registered-models/alias 2", True, "registered-models/alias")
    there = watch()
    there.acts_for(asked, 1)
    assert not there.violations
    there.acts_for(asked, 0)
    assert "rule 8" in there.violations[0]


def pod(restarts: int, env: list[dict[str, str]] | None = None) -> dict[str, Any]:
    container = {"name": "server", "restartCount": restarts, "state": {"running": {}}}
    return {
        "metadata": {"name": "api-1", "uid": "u", "labels": {"app": "api"}},
        "spec": {"containers": [{"name": "server", "env": env or []}]},
        "status": {"containerStatuses": [container]},
    }


def state(alias: str, *pods: dict[str, Any]) -> State:
    model = {"aliases": [{"alias": "champion", "version": alias}]}
    return State(promotion={}, deployments={}, pods=pods, model=model, versions={})


def entry(seq: int, action: str, to: str, **more: Any) -> dict[str, Any]:
    told = {"seq": seq, "action": action, "to": to, "attempt": "x", "hash": f"{seq}"}
    return {"alias": "champion", **told, **more}


INTENT = entry(3, "PromoteIntent", "2")
YES = entry(2, "Approved", "2", by="ann")


@pytest.mark.parametrize(
    ("history", "late", "says"),
    [
        ([INTENT], False, None),
        ([INTENT, entry(4, "Promoted", "2")], False, None),
        ([], False, "I6: the alias champion moved to 2, the intent is []"),
        ([{**INTENT, "alias": "staging"}], False, "moved to 2, the intent is []"),
        (
            [INTENT, entry(4, "RollbackIntent", "1")],
            False,
            "I6: the alias champion moved to 2, the intent is ['4 RollbackIntent 1']",
        ),
        ([INTENT, entry(4, "Abandoned", "2")], False, "the intent is ['4 Abandoned 2']"),
        ([INTENT, entry(4, "RollbackIntent", "1")], True, None),
        ([entry(3, "RollbackIntent", "1")], True, "I6: the alias champion moved to 2"),
    ],
)
def test_the_alias_moves_by_its_newest_intent(
    history: list[dict[str, Any]], late: bool, says: str | None
) -> None:
    assert_said(moved_to_2({}, history, late), says)


@pytest.mark.parametrize(
    ("required", "given", "says"),
    [
        (1, [YES], None),
        (1, [], "I1: the alias champion moved to 2 without its approvals"),
        (1, [{**YES, "attempt": "another"}], "without its approvals"),
        (2, [YES, YES], "without its approvals"),
        (2, [YES, {**YES, "by": "bob"}], None),
    ],
)
def test_the_alias_moves_when_as_many_as_the_spec_asks_for_approved(
    required: int, given: list[dict[str, Any]], says: str | None
) -> None:
    spec = {"approval": {"required": required}}
    assert_said(moved_to_2(spec, [*given, INTENT], late=False), says)


def test_a_rollback_needs_no_approval() -> None:
    spec = {"approval": {"required": 1}}
    assert not moved_to_2(spec, [entry(3, "RollbackIntent", "2")], late=False)


def moved_to_2(spec: dict[str, Any], history: list[dict[str, Any]], late: bool) -> list[str]:
    """What is said of it, with a chain that is not looked at here."""
    ready = {"status": "READY", "current_stage": "None"}
    promotion = {"spec": {"model": "m", **spec}, "status": {"history": history}}
    now = replace(state("2"), promotion=promotion, versions={"2": ready})
    there = Watch(cast(World, SimpleNamespace(state=lambda: now)), STORIES["rolled-back-in-baking"])
    there.begin()
    asked = Asked(System.MLFLOW, "post alias 2", True, invariants.ALIAS, "2", "champion")
    there.wrote(asked, late)
    return there.violations


def assert_said(violations: list[str], says: str | None) -> None:
    if says is None:
        assert not violations
    else:
        assert any(says in each for each in violations), violations


async def test_a_container_serves_what_the_alias_was_when_it_started() -> None:
    at = "1"
    containers = Containers(lambda _: at, lambda _: "champion")
    await containers.saw(pod(0))
    at = "2"
    await containers.saw(pod(0))
    assert not containers.strangers(state("1", pod(0)))
    assert containers.strangers(state("2", pod(0))) == ["pod api-1 serves 1, the champion is 2"]
    await containers.saw(pod(1))
    assert containers.strangers(state("1", pod(1))) == ["pod api-1 serves 2, the champion is 1"]


async def test_a_pinned_container_serves_its_version() -> None:
    containers = Containers(lambda _: "9", lambda _: "champion")
    pinned = pod(0, [{"name": "MODEL_URI", "value": "models:/churn/2"}])
    await containers.saw(pinned)
    assert not containers.strangers(state("2", pinned))


def test_a_result_that_was_cut_off_is_played_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of its line; what follows must not be written onto it."""
    kept, first, second = (
        tmp_path / "results",
        Case("rejected", SET_ALIAS, Fault.LOST),
        Case("rejected", SET_ALIAS, Fault.HANG),
    )
    Results(kept).add(Result(first, Word.HELD, 1.0))
    whole = kept.read_text()
    kept.write_text(whole + whole[: len(whole) // 2])
    again = Results(kept)
    assert list(again.of) == [first]
    again.add(Result(second, Word.HELD, 1.0))
    assert list(Results(kept).of) == [first, second]


@pytest.mark.parametrize("text", ["garbage{", "[1]", "{}", '{"case": 1}', "null"])
def test_a_file_of_something_else_is_named(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "results"
    kept.write_text(f"{text}\n")
    monkeypatch.setattr(sys, "argv", ["faults", "--table", "--resume", str(kept)])
    assert faults.main() == 2
    assert f"--resume: {kept}, line 1: no result" in capsys.readouterr().err
    assert kept.read_text() == f"{text}\n"


@pytest.mark.parametrize(
    ("main", "given"),
    [
        (faults.main, ["--cases", "0"]),
        (faults.main, ["--table"]),
        (faults.main, ["--break", "constant-move-id", "--resume", "of-another-operator"]),
        (faults.main, ["--table", "--resume", "of-nothing"]),
        (schedules.main, ["--count", "0"]),
        (schedules.main, ["--count", "-5"]),
        (schedules.main, ["--at-once", "0"]),
        (schedules.main, ["--seed", "abc"]),
        (schedules.main, ["--seed", "1", "--real", "--shrink"]),
    ],
)
def test_what_plays_nothing_is_refused(
    main: Callable[[], int], given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["faults", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_schedules_that_were_interrupted_are_not_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Iterator[schedules.Told]:
        yield schedules.Told("0", "chain", [], [], [], 1.0, 1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(schedules, "_all", interrupted)
    assert schedules.many(range(10), schedules.Drawn(), 1) == schedules.INTERRUPTED
    assert "interrupted: 9 more were not played" in capsys.readouterr().out


def test_results_are_read_back(tmp_path: Path) -> None:
    kept = tmp_path / "results"
    recording = Recording((SET_ALIAS, READ_MODEL), frozenset())
    case = Case("rejected", SET_ALIAS, Fault.LOST)
    result = Result(case, Word.VIOLATED, 1.5, ("I1: no",))
    first = Results(kept)
    first.recorded("rejected", recording)
    first.add(result)
    again = Results(kept)
    assert (again.recordings, again.of) == ({"rejected": recording}, {case: result})
    assert again.words() == {"violated": 1}


def played(words: Counter[Word], path: Path | None = None) -> Results:
    """So many cases of one story came to each of these."""
    results = Results(path)
    for nth, word in enumerate(words.elements(), 1):
        case = Case("rejected", replace(SET_ALIAS, nth=nth), Fault.LOST)
        results.add(Result(case, word, 1.0))
    return results


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (Counter({Word.HELD: 95, Word.NOT_MADE: 5}), 0, []),
        (
            Counter({Word.HELD: 94, Word.NOT_MADE: 6}),
            1,
            ["rejected: 6 of 100 cases were not made, more than 5%"],
        ),
        (Counter({Word.HELD: 100, Word.NOT_FIRED: 1}), 1, []),
        (Counter({Word.HELD: 100, Word.VIOLATED: 1}), 1, []),
        (Counter(), 1, ["no case was played: no call has that name, or meets that fault"]),
    ],
)
def test_a_run_is_good_when_what_was_asked_for_was_made(
    words: Counter[Word], code: int, says: list[str]
) -> None:
    assert verdict(played(words), [], 0) == (code, says)


def test_another_storys_cases_make_up_for_nothing() -> None:
    results = played(Counter({Word.NOT_MADE: 2}))
    for nth in range(1, 99):
        case = Case("chain", replace(SET_ALIAS, nth=nth), Fault.LOST)
        results.add(Result(case, Word.HELD, 1.0))
    assert verdict(results, [], 0)[0] == 1


def test_what_is_violated_without_any_fault_is_not_good() -> None:
    assert verdict(played(Counter({Word.HELD: 1})), ["rejected"], 0)[0] == 1


async def test_what_was_not_played_in_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(None)
    results.recorded("rejected", Recording((SET_ALIAS, WRITE_STATUS), frozenset()))
    monkeypatch.setattr("sys.argv", ["make faults", "--story", "rejected", "--minutes", "-1"])
    run = Run([cast(Any, None)], arguments(), results)
    await run.all()
    assert run.left == len(results.cases("rejected")) > 0
    results = played(Counter({Word.HELD: 1}))
    assert verdict(results, [], run.left) == (0, [f"cut short: {run.left} cases were not played"])


def test_the_summary_tells_all_cases_beside_those_played(tmp_path: Path) -> None:
    results = played(Counter({Word.HELD: 2, Word.NOT_MADE: 1}), tmp_path / "results")
    recording = Recording((SET_ALIAS, WRITE_STATUS, READ_MODEL), frozenset())
    results.recorded("rejected", recording)
    results.recorded("chain", recording)
    shown = summary(Results(tmp_path / "results"))
    columns = {str(column.header): list(column.cells) for column in shown.columns}
    rejected, chain = (len(recording.cases(story)) for story in ("rejected", "chain"))
    assert columns["story"] == ["rejected", "chain", "all"]
    assert columns["cases"] == [str(rejected + 2), str(chain), str(rejected + 2 + chain)]
    assert columns["played"] == ["3", "0", "3"]
    assert columns["held"] == ["2", "0", "2"]


def test_most_faults_are_played_a_few_at_once() -> None:
    cases = [
        Case(story, replace(SET_ALIAS, name=name), fault)
        for story in ("rejected", "chain")
        for fault in (Fault.LOST, Fault.PAUSED)
        for name in "abcde"
    ]
    groups = grouped(cases, 2)
    expected = 2 * ["ad", "be", "c", *"abcde"]  # far from each other, and PAUSED alone
    assert ["".join(case.call.name for case in group) for group in groups] == expected
    assert {case for group in groups for case in group} == set(cases)
    assert all(len({(case.story, case.fault) for case in group}) == 1 for group in groups)


def test_a_write_and_its_next_are_not_broken_in_one_telling() -> None:
    """The second break would befall the first write's second try."""
    calls = [
        replace(SET_ALIAS, name=name, nth=nth)
        for name, nth in (("a", 1), ("b", 1), ("a", 2), ("c", 1))
    ]
    groups = grouped([Case("chain", call, Fault.ERROR) for call in calls], 4)
    assert [[case.call.name for case in group] for group in groups] == [["a", "b", "c"], ["a"]]


@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        (Fault.LAGGING, [WRITE_STATUS, replace(WRITE_STATUS, nth=2)]),  # which tries nothing again
        (Fault.ERROR, [READ_MODEL, replace(READ_MODEL, after="a write")]),
    ],
)
def test_what_is_no_second_try_is_broken_in_one_telling(fault: Fault, calls: list[Call]) -> None:
    cases = [Case("chain", call, fault) for call in calls]
    assert grouped(cases, 2) == [cases]


@pytest.mark.parametrize(
    ("together", "alone", "words"),
    [
        (Outcome(fired=frozenset({SET_ALIAS, READ_MODEL})), None, ["held 2", "held 2"]),
        (Outcome(fired=frozenset({SET_ALIAS})), None, ["held 2", "not made 2"]),
        (Outcome(violations=["I1"]), Outcome(violations=["I1"]), ["violated 1", "violated 1"]),
        (Outcome(violations=["I1"]), Outcome(fired=ONE), ["held 1", "violated 2"]),
    ],
)
async def test_what_does_not_hold_together_is_played_alone(
    monkeypatch: pytest.MonkeyPatch, together: Outcome, alone: Outcome | None, words: list[str]
) -> None:
    async def run(_: object, __: object, at: list[Call], *___: object) -> Outcome:
        outcome = together if len(at) > 1 else alone
        assert outcome is not None
        return outcome

    monkeypatch.setattr(harness, "run", run)
    group = [Case("rejected", call, Fault.LOST) for call in (SET_ALIAS, READ_MODEL)]
    played = [result for result, _ in await play(cast(Any, None), group)]
    assert [result.case for result in played] == group
    assert [f"{result.word} {result.together}" for result in played] == words


async def test_what_does_not_come_is_played_with_others_with_few_and_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of twelve calls six come in each telling of many, b only alone, and a never."""
    calls = [replace(READ_MODEL, name=name) for name in "abcdefghijkl"]
    results, tellings = Results(None), []

    async def run(_: object, __: object, at: list[Call], *___: object) -> Outcome:
        tellings.append("".join(sorted(call.name for call in at)))
        come = [call for call in at if call.name not in "ab" or at == [calls[1]]]
        return Outcome(fired=frozenset(come[: max(len(at) // 2, 1)]))

    monkeypatch.setattr(harness, "run", run)
    monkeypatch.setattr("sys.argv", ["make faults", "--story", "chain", "--fault", "ERROR"])
    monkeypatch.setattr(Recording, "cases", lambda *_: [_failing(call) for call in calls])
    results.recorded("chain", Recording((), frozenset()))
    await Run([cast(Any, None)], arguments(), results).all()
    words = Counter(str(result.word) for result in results.of.values())
    assert words == {"held": 11, "not made": 1}
    assert results.of[_failing(calls[0])].word is Word.NOT_MADE
    assert sorted(len(each) for each in tellings[:2]) == [6, 6]
    assert tellings[-2:] == ["a", "b"]
    assert "".join(tellings).count("a") == 4


def _failing(call: Call) -> Case:
    return Case("chain", call, Fault.ERROR)


def test_each_call_meets_the_faults_that_make_a_difference_to_it() -> None:
    recording = Recording((SET_ALIAS, READ_MODEL, WRITE_STATUS), frozenset())
    met = {(case.call, case.fault) for case in recording.cases("x")}
    assert (SET_ALIAS, Fault.CONFLICT) not in met, "MLflow knows none"
    assert (SET_ALIAS, Fault.LATE) in met
    assert (WRITE_STATUS, Fault.LAGGING) in met
    assert not any(call is READ_MODEL for call, _ in met), "only the first of its kind"
    assert Fault.STALE in faults_of(READ_MODEL)


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize(
    ("words", "stories", "code", "says"),
    [
        (Counter({Word.HELD: 9, Word.VIOLATED: 2}), [], 0, "was caught: 2 violated"),
        (Counter(), ["rejected"], 0, "was caught: 1 violated"),
        (Counter({Word.HELD: 9}), [], 1, "was not caught"),
        (Counter({Word.NOT_FIRED: 1, Word.NOT_MADE: 1}), [], 1, "was not caught"),
    ],
)
def test_of_a_broken_operator_something_must_be_violated(
    name: str, words: Counter[Word], stories: list[str], code: int, says: str
) -> None:
    told, [said] = verdict(played(words), stories, 0, name)
    assert (told, said.startswith(f"{name} {says}")) == (code, True)


@pytest.mark.parametrize(
    ("violations", "name", "code"),
    [
        ([], None, 0),
        (["I1"], None, 1),
        (["the tests ended with KeyError()"], None, 1),
        ([], "constant-move-id", 1),
        (["I1"], "constant-move-id", 0),
        (["the tests ended with KeyError()"], "constant-move-id", 1),
    ],
)
def test_of_schedules_of_a_broken_operator_one_must_fail(
    violations: list[str], name: str | None, code: int
) -> None:
    total = Total()
    total.add(Told("1", "rejected", [], [], [], 1.0, 1.0))
    total.add(Told("2", "rejected", [], [], violations, 1.0, 1.0))
    assert total.code(name) == code


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_changes_the_operator_and_ends(name: str) -> None:
    def parts() -> tuple[object, ...]:
        of_the_runtime = Reconciler._guard, Reconciler._write_status, Performer._set_alias
        return attempts.move_id, *of_the_runtime

    before = parts()
    with broken(name):
        assert parts() != before
    assert parts() == before
