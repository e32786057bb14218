"""How fast the same writes go without an operator: sent bare, by as many workers as Podium has.

The kinds, the number of each and the sizes are those that Podium was just seen to write, on the
same servers, by the same account. What is left out is everything else: reads, waiting, deciding.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.kube import APPLY, Kube, in_parallel
from benchmarks.measures import HALF, Run
from benchmarks.population import Member, deployments_path, promotions_path

WORKERS = 16  # --workers of the operator
_MANAGER = {"fieldManager": "podium-operator"}


@dataclass
class _Target:
    """One promotion of the burst, as it is before its bare writes."""

    member: Member
    promotion: dict[str, Any]
    uid: str  # of its Deployment
    written: int = 0
    tags: dict[str, str] = field(default_factory=dict)


async def raw_writes(run: Run) -> None:
    """The burst's writes again, bare. The operator is stopped: it would answer to them."""
    if run.burst is None:
        return
    await asyncio.to_thread(run.bed.operator.stop)
    count = len(run.burst_of)
    kubernetes = {kind: round(n / count) for kind, n in run.burst.writes.items()}
    mlflow = {kind: round(n / count) for kind, n in run.burst.mlflow_writes.items()}
    async with run.bed.as_operator() as kube, aiohttp.ClientSession(run.bed.mlflow.uri) as session:
        targets = await _targets(run, session)
        both = await _timed(targets, _Writer(kube, session, kubernetes, mlflow))
        only_kubernetes = await _timed(targets, _Writer(kube, session, kubernetes, {}))
        only_mlflow = await _timed(targets, _Writer(kube, session, {}, mlflow))
    report, part = run.report, "bare writes"
    writes = sum(kubernetes.values()) + sum(mlflow.values())
    report.add(part, "writes per promotion", writes, "", note="the burst's, rounded")
    report.add(part, "promotions per second", count / both, "/s")
    report.add(part, "writes per second", writes * count / both, "/s")
    report.add(part, "only those to Kubernetes", count / only_kubernetes, "promotions/s")
    report.add(part, "only those to MLflow", count / only_mlflow, "promotions/s")
    ratio = run.burst_rate / (count / both)
    report.add(part, "Podium's rate / bare rate", ratio, "", target=HALF, at_least=True)
    report.details["bare writes: of each promotion"] = {**kubernetes, **mlflow}


async def _timed(targets: list[_Target], writer: "_Writer") -> float:
    began = time.monotonic()
    await in_parallel(targets, writer.write, WORKERS)
    return time.monotonic() - began


async def _targets(run: Run, mlflow: aiohttp.ClientSession) -> list[_Target]:
    """Read before the clock starts."""
    found: dict[str, _Target] = {}

    async def read(member: Member) -> None:
        promotion = await run.kube.send("GET", f"{promotions_path(member)}/{member.name}")
        deployment = await run.kube.send("GET", f"{deployments_path(member)}/{member.name}")
        found[member.name] = _Target(member, promotion, deployment["metadata"]["uid"])

    await in_parallel(run.burst_of, read)
    tags = await _largest_tags(mlflow, next(iter(run.burst_of)).name)
    for target in found.values():
        target.tags = tags
    return list(found.values())


async def _largest_tags(mlflow: aiohttp.ClientSession, model: str) -> dict[str, str]:
    """A ledger entry and a head as Podium wrote them: what a bare write carries, too."""
    async with mlflow.get("/api/2.0/mlflow/registered-models/get", params={"name": model}) as got:
        stored = (await got.json())["registered_model"]
    async with mlflow.get(
        "/api/2.0/mlflow/model-versions/search", params={"filter": f"name = '{model}'"}
    ) as got:
        versions = (await got.json())["model_versions"]
    of_versions = [tag["value"] for version in versions for tag in version.get("tags", [])]
    heads = [tag["value"] for tag in stored.get("tags", [])]
    return {"entry": max(of_versions, key=len), "head": max(heads, key=len)}


class _Writer:
    """The writes of one promotion, one after the other as Podium must."""

    def __init__(
        self,
        kube: Kube,
        mlflow: aiohttp.ClientSession,
        kubernetes: dict[str, int],
        registry: dict[str, int],
    ) -> None:
        self._kube, self._mlflow = kube, mlflow
        self._kubernetes, self._registry = Counter(kubernetes), Counter(registry)
        self._ways: dict[str, Callable[[_Target], Any]] = {
            "update modelpromotions/status": self._status,
            "patch deployments": self._apply,
            "create events": self._event,
            "patch events": self._event,
        }

    async def write(self, target: _Target) -> None:
        for kind, times in self._kubernetes.items():
            for _ in range(times):
                await self._ways[kind](target)
        for kind, times in self._registry.items():
            for _ in range(times):
                await self._post(kind.partition(" ")[2], target)

    async def _status(self, target: _Target) -> None:
        raw, member = target.promotion, target.member
        target.written += 1
        attempt = {**raw["status"]["attempt"], "message": f"bare write {target.written}"}
        body = {**raw, "status": {**raw["status"], "attempt": attempt}}
        path = f"{promotions_path(member)}/{member.name}/status"
        target.promotion = await self._kube.send("PUT", path, body, query=_MANAGER)

    async def _apply(self, target: _Target) -> None:
        member = target.member
        target.written += 1
        annotations = {
            "podium.dev/model-version": "1",
            "podium.dev/move-id": f"bare-{target.written}",
        }
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": member.name, "uid": target.uid},
            "spec": {"template": {"metadata": {"annotations": annotations}}},
        }
        path = f"{deployments_path(member)}/{member.name}"
        query = {"fieldManager": f"podium-{member.name}", "force": "true"}
        await self._kube.send("PATCH", path, body, kind=APPLY, query=query)

    async def _event(self, target: _Target) -> None:
        member, raw = target.member, target.promotion
        target.written += 1
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{member.name}.bare-{time.time_ns()}"},
            "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()),
            "type": "Normal",
            "reason": "Promoted",
            "action": "Reconcile",
            "note": f"version 5 is champion and is served ({target.written})",
            "regarding": {
                "apiVersion": raw["apiVersion"],
                "kind": raw["kind"],
                "namespace": member.namespace,
                "name": member.name,
                "uid": raw["metadata"]["uid"],
            },
            "reportingController": "podium.dev/operator",
            "reportingInstance": "bare",
        }
        path = f"/apis/events.k8s.io/v1/namespaces/{member.namespace}/events"
        await self._kube.send("POST", path, body)

    async def _post(self, path: str, target: _Target) -> None:
        target.written += 1
        name, number = target.member.name, target.written
        bodies: dict[str, dict[str, Any]] = {
            "registered-models/alias": {"alias": "champion", "version": str(1 + number % 2)},
            "registered-models/set-tag": {
                "key": "bare",
                "value": f"{number} {target.tags['head']}",
            },
            "model-versions/set-tag": {
                "version": "1",
                "key": f"bare-{number}",
                "value": target.tags["entry"],
            },
            "model-versions/transition-stage": {
                "version": "1",
                "stage": ("Staging", "Archived")[number % 2],
                "archive_existing_versions": False,
            },
        }
        body = {"name": name, **bodies[path]}
        async with self._mlflow.post(f"/api/2.0/mlflow/{path}", json=body) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")
