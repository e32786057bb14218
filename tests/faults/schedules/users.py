"""What people do meanwhile: each deed in words, and how it is done.

A deed that the servers refuse (a version that is not there) is nothing that happened.
"""

import asyncio
import contextlib
import urllib.error
from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.stories import API, BAD, GOOD, Play
from tests.faults.world import Refused

Deed = Callable[[Play], Awaitable[None]]
_MERGE = "application/merge-patch+json"


async def do(deed: str, play: Play) -> None:
    with contextlib.suppress(urllib.error.HTTPError, Refused):
        await DEEDS[deed](play)


async def _edit(play: Play, spec: dict[str, Any]) -> None:
    path = play.world.path("modelpromotions", "p")
    await play.do(play.world.cluster.call, "PATCH", path, {"spec": spec}, _MERGE)


async def _patch_deployment(play: Play, spec: dict[str, Any]) -> None:
    path = play.world.path("deployments", API, "apps/v1")
    await play.do(play.world.cluster.call, "PATCH", path, {"spec": spec}, _MERGE)


def _moves(version: str) -> Deed:
    async def deed(play: Play) -> None:
        await play.set_alias(version)

    return deed


def _stages(version: str, stage: str) -> Deed:
    async def deed(play: Play) -> None:
        await play.set_stage(version, stage)

    return deed


def _registers(accuracy: float) -> Deed:
    async def deed(play: Play) -> None:
        await play.register(accuracy)

    return deed


def _deletes(version: str) -> Deed:
    async def deed(play: Play) -> None:
        world = play.world
        await play.do(world.registry.delete_version, world.model, version)

    return deed


def _edits(**spec: Any) -> Deed:
    async def deed(play: Play) -> None:
        await _edit(play, spec)

    return deed


def _says(action: str, **spec: Any) -> Deed:
    async def deed(play: Play) -> None:
        moment = asyncio.get_running_loop().time()
        await play.decide(f"{action.lower()}-{moment:.3f}", action, reason="because", **spec)

    return deed


async def _approves(play: Play) -> None:
    """What is being asked just now, if anything is."""
    attempt = (await play.do(play.world.state)).attempt
    if attempt.get("phase") == "AwaitingApproval":
        asked = {
            "attemptID": attempt["id"],
            "version": attempt["version"],
            "evidenceDigest": attempt["evidenceDigest"],
        }
        await _says("Approve", **asked)(play)


async def _suspends(play: Play) -> None:
    await _edit(play, {"suspend": True})
    await asyncio.sleep(8.0)
    await _edit(play, {"suspend": False})


async def _drops_alias(play: Play) -> None:
    body = {"name": play.world.model, "alias": "champion"}
    await play.do(play.world.registry.call, "DELETE", "registered-models/alias", body)


async def _undoes(play: Play) -> None:
    """As `kubectl rollout undo` to a template from before Podium's first move."""
    marks = {"podium.dev/model-version": None, "podium.dev/move-id": None}
    await _patch_deployment(play, {"template": {"metadata": {"annotations": marks}}})


async def _changes_template(play: Play) -> None:
    await _patch_deployment(play, {"template": {"metadata": {"annotations": {"team": "b"}}}})


async def _scales(play: Play) -> None:
    await _patch_deployment(play, {"replicas": 3})


async def _makes_again(play: Play) -> None:
    world = play.world
    found = (await play.do(world.state)).promotion
    await play.unpromote()
    await asyncio.sleep(2.0)
    if found:
        await play.promote(**found["spec"])


async def _deletes_lease(play: Play) -> None:
    path = play.world.path("leases", "podium-operator", "coordination.k8s.io/v1")
    await play.do(play.world.cluster.call, "DELETE", path)


DELETES_LEASE = "deletes the Lease"
EDITS = (
    "suspends the promotion for eight seconds",
    "pins version 1",
    "deletes the promotion and makes it again",
    "says Hold",
    "says Rollback",
)
DEEDS: dict[str, Deed] = {
    "moves champion to version 1": _moves("1"),
    "moves champion to version 2": _moves("2"),
    "deletes the alias champion": _drops_alias,
    "puts version 1 into Production": _stages("1", "Production"),
    "puts version 2 into Staging": _stages("2", "Staging"),
    "registers a good version": _registers(GOOD),
    "registers a bad version": _registers(BAD),
    "deletes version 1": _deletes("1"),
    "deletes version 2": _deletes("2"),
    "suspends the promotion for eight seconds": _suspends,
    "asks for a longer bake": _edits(rollback={"bakeDuration": "20s"}),
    "asks for no bake": _edits(rollback={"bakeDuration": "0s"}),
    "asks for one approval": _edits(approval={"required": 1}),
    "asks for no approval": _edits(approval=None),
    "keeps a shorter history": _edits(historyLimit=2),
    "drops the gates": _edits(gates=[]),
    "pins version 1": _edits(candidate={"latest": None, "version": "1"}),
    "asks for the newest version": _edits(candidate={"latest": {}, "version": None}),
    "says Rollback": _says("Rollback"),
    "says Hold": _says("Hold"),
    "says Release": _says("Release"),
    "says Release of version 2": _says("Release", version="2"),
    "says Retry of version 2": _says("Retry", version="2"),
    "says Reject of version 2": _says("Reject", version="2"),
    "approves": _approves,
    "undoes the rollout": _undoes,
    "changes the pod template": _changes_template,
    "scales to three": _scales,
    "deletes the promotion and makes it again": _makes_again,
    DELETES_LEASE: _deletes_lease,
}
