"""The measures, in the order in which they are taken: each adds its figures to the report."""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks.bed import Bed
from benchmarks.kube import Kube
from benchmarks.population import FIRST_VERSIONS, Member, Registry, by_kind, spread
from benchmarks.report import Report, quantile
from benchmarks.usage import peak_mb, resident_mb
from benchmarks.watching import Watching
from benchmarks.window import Seen, Window, mlflow_requests

NAMES_PER_REQUEST = 100  # one request per hundred models (DESIGN section 4)
MEMORY_MB, READY_SECONDS = 150.0, 10.0
AT_ONCE = 1000
HALF = 0.5


@dataclass
class Run:
    """What the measures share."""

    bed: Bed
    people: Sequence[Member]
    registry: Registry
    kube: Kube
    watching: Watching
    report: Report
    poll: float  # seconds, of each ModelRegistry
    burst: Seen | None = None
    burst_rate: float = 0.0  # promotions per second
    burst_of: tuple[Member, ...] = ()

    def memory(self, part: str) -> None:
        pid = self.bed.operator.pid
        self.report.add(part, "resident", resident_mb(pid), "MB", target=MEMORY_MB)
        self.report.add(part, "resident, peak since its start", peak_mb(pid), "MB")

    def programs(self, part: str, seen: Seen) -> None:
        """Which program used the processor: what a figure is bound by."""
        busy = sorted(seen.cpu.items(), key=lambda item: -item[1])
        self.report.details[f"{part}: CPU seconds"] = {name: used for name, used in busy if used}
        self.report.details[f"{part}: load average"] = seen.load

    async def calm(self, within: float = 900.0) -> float:
        """Waits until Podium has written nothing for two polls and a little. Gives when (monotonic)
        that time began."""
        quiet, until = 2 * self.poll + 3.0, time.monotonic() + within
        while time.monotonic() < until:
            since = time.monotonic()
            audit, log = self.bed.audit.mark(), self.bed.mlflow_log.stat().st_size
            await asyncio.sleep(quiet)
            written = self.bed.audit.writes_of_operator(audit)
            posted = [k for k in mlflow_requests(self.bed, log) if not k.startswith("GET ")]
            if not written and not posted:
                return since
        raise TimeoutError(f"Podium still writes after {within:.0f} s: {written} {posted}")


async def bring_up(run: Run, within: float) -> None:
    """Everything is new to Podium: each promotion claims its alias and adopts its champion."""
    report, people = run.report, run.people
    mark, log = run.bed.audit.mark(), run.bed.mlflow_log.stat().st_size
    run.watching.expect({each.name: each.first_champion for each in people})
    before, began = run.bed.usage(), time.monotonic()
    report.add("first start", "ready", await asyncio.to_thread(run.bed.operator.start), "s")
    await run.watching.all_served(within)
    served = time.monotonic() - began
    report.add("first start", "all served", served, "s", note="the first poll included")
    rested = await run.calm(within) - began
    report.add("first start", "at rest", rested, "s", note="the wait for the claims included")
    report.add("first start", "promotions per second", len(people) / rested, "/s")
    count = len(people)
    report.details["first start: writes to Kubernetes, each"] = _each(
        run.bed.audit.writes_of_operator(mark), count
    )
    report.details["first start: requests to MLflow, each"] = _each(
        mlflow_requests(run.bed, log), count
    )
    report.details["first start: CPU seconds"] = before.until(run.bed.usage())
    run.memory("first start")


async def at_rest(run: Run, seconds: float) -> None:
    """Nothing happens: what does Podium do?"""
    window = Window(run.bed)
    await asyncio.sleep(seconds)
    seen, report = window.end(), run.report
    report.add(
        "at rest",
        "API writes but the Lease",
        seen.writes.total(),
        "",
        target=0.0,
        note=f"in {seen.seconds:.0f} s, by the audit log",
    )
    report.details["at rest: API writes of others"] = seen.by_others
    report.details["at rest: API reads"] = seen.reads
    report.details["at rest: requests to MLflow"] = seen.mlflow
    report.add("at rest", "writes to MLflow", seen.mlflow_writes.total(), "", target=0.0)
    polls = seen.grown("podium_poll_seconds_count")
    registries = len({each.namespace for each in run.people})
    report.add("at rest", "registries", registries, "", note="ModelRegistries, one MLflow")
    if polls:
        wanted = sum(
            -(-sum(m.namespace == space for m in run.people) // NAMES_PER_REQUEST)
            for space in {m.namespace for m in run.people}
        )
        each = seen.mlflow.total() / polls * registries
        report.add("at rest", "MLflow requests per poll of all", each, "", target=wanted)
        period = seen.seconds * registries / polls
        report.add("at rest", "from poll to poll", period, "s", note=f"interval {run.poll:g} s")
        mean = seen.grown("podium_poll_seconds_sum") / polls
        report.add("at rest", "a poll of one registry takes", mean, "s", note="mean")
        per_poll = 1000 * seen.cpu["operator"] / polls * registries
        report.add("at rest", "CPU per poll of all", per_poll, "ms", note="operator, all it does")
        mlflow = (seen.cpu["mlflow"] + seen.cpu["postgres"]) / polls * registries
        report.add("at rest", "CPU of MLflow and PostgreSQL per poll of all", mlflow, "s")
    report.add("at rest", "CPU of the operator", seen.cpu["operator"] / seen.seconds, "cores")
    run.memory("at rest")
    began = time.perf_counter()
    await asyncio.to_thread(run.bed.operator.metrics)
    report.add("at rest", "a scrape of /metrics", time.perf_counter() - began, "s")
    run.programs("at rest", seen)


async def restart(run: Run) -> None:
    """A start with everything already promoted, as after a rollout of Podium itself."""
    report, operator = run.report, run.bed.operator
    await asyncio.to_thread(operator.stop)
    mark, log, before = run.bed.audit.mark(), run.bed.mlflow_log.stat().st_size, run.bed.usage()
    ready = await asyncio.to_thread(operator.start)
    report.add("restart", "ready", ready, "s", target=READY_SECONDS, note="from exec to /readyz")
    began = time.monotonic()
    while True:
        found = operator.metrics()
        looked = found[("podium_reconcile_seconds_count", ())]
        polled = found.get(("podium_poll_seconds_count", ()), 0.0)
        registries = len({each.namespace for each in run.people})
        waiting = found[("podium_queue_depth", ())]
        if polled >= registries and looked >= len(run.people) and not waiting:
            break
        if time.monotonic() - began > 300:
            raise TimeoutError(f"{looked:.0f} passes and {polled:.0f} polls 300 s after a start")
        await asyncio.sleep(1)
    looked_at = ready + time.monotonic() - began
    report.add("restart", "every promotion looked at", looked_at, "s", note="first poll included")
    await run.calm()
    report.add(
        "restart",
        "API writes but the Lease",
        run.bed.audit.writes_of_operator(mark).total(),
        "",
        target=0.0,
    )
    report.details["restart: requests to MLflow"] = mlflow_requests(run.bed, log)
    report.details["restart: CPU seconds"] = before.until(run.bed.usage())
    run.memory("restart")


async def latency(run: Run, count: int, seconds: float) -> None:
    """Now and then somebody moves an alias or registers a version: until the Deployment changes."""
    adopting, following = by_kind(run.people)
    moved = list(spread(adopting, count))
    registered = list(spread(following, count))
    work = [*moved, *registered]
    random.Random(1).shuffle(work)  # noqa: S311
    window = Window(run.bed)
    run.watching.expect({each.name: _next_version(each) for each in work})
    sent: dict[str, float] = {}
    async with aiohttp.ClientSession(run.bed.mlflow.uri) as mlflow, asyncio.TaskGroup() as tasks:
        for member in work:
            sent[member.name] = time.time()
            tasks.create_task(_stimulate(mlflow, member))
            await asyncio.sleep(seconds / len(work))
    served = await run.watching.all_served(600)
    seen = window.end()
    patched = _first_patches(seen)
    for what, group in (("alias moved", moved), ("new version", registered)):
        until_patch = [patched[m.name] - sent[m.name] for m in group]
        until_served = [served[m.name] - sent[m.name] for m in group]
        _latency(run.report, f"{what} -> Deployment patched", until_patch, run.poll + 1)
        _latency(run.report, f"{what} -> served, stages, ledger", until_served, None)
    _passes(run, "one by one", seen)
    run.programs("one by one", seen)


def _latency(report: Report, name: str, values: list[float], target: float | None) -> None:
    note = f"of {len(values)}"
    report.add("one by one", f"{name}, p50", quantile(values, 0.5), "s", note=note)
    report.add("one by one", f"{name}, p99", quantile(values, 0.99), "s", target=target, note=note)


def _next_version(member: Member) -> str:
    return "2" if member.adopts else str(FIRST_VERSIONS + 1)


async def _stimulate(mlflow: aiohttp.ClientSession, member: Member) -> None:
    if member.adopts:
        path, body = "registered-models/alias", {"alias": "champion", "version": "2"}
    else:
        path, body = "model-versions/create", {"source": f"s3://models/{member.name}/next"}
    async with mlflow.post(f"/api/2.0/mlflow/{path}", json={"name": member.name, **body}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")


def _first_patches(seen: Seen) -> dict[str, float]:
    """When the operator's first patch of each Deployment was answered."""
    found: dict[str, float] = {}
    for request in seen.requests:
        if request.kind == "patch deployments" and request.response_status.code == 200:
            found.setdefault(request.object_ref.name, request.answered_at)
    return found


def _passes(run: Run, part: str, seen: Seen) -> None:
    for what, name in (("a key waits", "queue"), ("a pass takes", "reconcile")):
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            value = seen.histogram(f"podium_{name}_seconds", share)
            run.report.add(part, f"{what}, {label}", value, "s")


async def at_once(run: Run) -> None:
    """A thousand new versions in one commit (moved aliases, where there are not so many)."""
    adopting, following = by_kind(run.people)
    registered = list(spread(following, min(AT_ONCE, len(following))))
    moved = list(spread(adopting, min(AT_ONCE - len(registered), len(adopting))))
    run.burst_of = (*registered, *moved)
    versions = {each.name: FIRST_VERSIONS + 2 for each in registered}
    aliases = {each.name: FIRST_VERSIONS for each in moved}
    window = Window(run.bed)
    run.watching.expect({name: str(number) for name, number in {**versions, **aliases}.items()})
    began = time.time()
    await asyncio.to_thread(run.registry.at_once, versions, aliases)
    served = await run.watching.all_served(1800)
    seen = window.end()
    run.burst = seen
    wanted = {each.name for each in run.burst_of}
    patched = [at for name, at in _first_patches(seen).items() if name in wanted]
    first = min(r.answered_at for r in seen.requests if _of_burst(r.kind))
    count, last = len(run.burst_of), max(served.values())
    run.burst_rate = count / (last - first)
    report, part = run.report, "at once"
    note = f"{len(registered)} new versions, {len(moved)} moved aliases"
    report.add(part, "promotions", count, "", note=note)
    report.add(part, "commit -> last Deployment patched", max(patched) - began, "s")
    report.add(part, "commit -> last served", last - began, "s")
    report.add(part, "first write -> last served", last - first, "s")
    report.add(part, "promotions per second", run.burst_rate, "/s")
    report.add(part, "writes per second", _writes(seen) / (last - first), "/s", note="both servers")
    _passes(run, part, seen)
    report.details["at once: writes to Kubernetes, each"] = _each(seen.writes, count)
    report.details["at once: reads of Kubernetes, each"] = _each(seen.reads, count)
    report.details["at once: requests to MLflow, each"] = _each(seen.mlflow, count)
    run.programs(part, seen)
    run.memory(part)


def _of_burst(kind: str) -> bool:
    return kind.startswith("update modelpromotions")


def _writes(seen: Seen) -> int:
    return seen.writes.total() + seen.mlflow_writes.total()


def _each(counts: Mapping[str, int], of: int) -> dict[str, float]:
    return {kind: round(n / of, 2) for kind, n in sorted(counts.items(), key=lambda i: -i[1])}


async def rollouts(run: Run) -> None:
    """Those whose pods simulated nodes run: from a new version to all pods ready."""
    rolling = [each for each in run.people if each.replicas]
    if not rolling:
        return
    run.watching.expect({each.name: str(FIRST_VERSIONS + 1) for each in rolling})
    began = time.time()
    versions = {each.name: FIRST_VERSIONS + 1 for each in rolling}
    await asyncio.to_thread(run.registry.at_once, versions, {})
    served = await run.watching.all_served(600)
    took = [at - began for at in served.values()]
    note = f"{len(rolling)} Deployments of {rolling[0].replicas} simulated pods"
    run.report.add("with pods", "commit -> served, p50", statistics.median(took), "s", note=note)
    run.report.add("with pods", "commit -> served, last", max(took), "s")
