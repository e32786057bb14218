"""The stories: what is there before, what happens, and what must be true in the end.

Each begins with version 1 as the champion that Podium took over (but the first, which begins
with nothing), because calls are counted and broken only from `drive` on. Steps are coroutines,
so that a story can be told to real servers and in simulated time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from tests.faults.world import State, World

GOOD, BAD = 0.95, 0.5
ENDED = (None, "Promoted", "RolledBack", "Rejected", "Superseded", "Expired")
API = "api"
PATIENCE = 60.0
LONGEST = 5.0


P = ParamSpec("P")
T = TypeVar("T")


class Perform(Protocol):
    """How a blocking call to a server is made: in a thread, or at once where nothing blocks."""

    async def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


@dataclass
class Play:
    """One run of a story: hands, eyes, and how long to wait."""

    world: World
    alive: Callable[[], None]
    do: Perform = asyncio.to_thread
    patience: float = PATIENCE  # seconds
    look_every: float = 0.25  # seconds

    async def wait(
        self, what: str, true: Callable[[State], bool], seconds: float | None = None
    ) -> State:
        """Gives up when nothing has changed for so long (a machine that is full of trials is slow
        and still gets there), or after LONGEST times that."""
        seconds = self.patience if seconds is None else seconds
        loop = asyncio.get_running_loop()
        began = changed = loop.time()
        last: State | None = None
        while True:
            self.alive()
            state = await self.do(self.world.state)
            if true(state):
                return state
            now = loop.time()
            if state != last:
                last, changed = state, now
            if now > min(changed + seconds, began + LONGEST * seconds):
                raise AssertionError(f"not within {now - began:.0f} s: {what}; {describe(state)}")
            await asyncio.sleep(self.look_every)

    async def register(self, accuracy: float) -> str:
        return await self.do(self.world.registry.register, self.world.model, accuracy=accuracy)

    async def set_alias(self, version: str, alias: str = "champion") -> None:
        await self.do(self.world.registry.set_alias, self.world.model, alias, version)

    async def set_stage(self, version: str, stage: str) -> None:
        body = {"name": self.world.model, "version": version, "stage": stage}
        await self.do(self.world.registry.call, "POST", "model-versions/transition-stage", body)

    async def promote(self, name: str = "p", **spec: Any) -> None:
        base: dict[str, Any] = {
            "registryRef": {"name": "mlflow"},
            "model": self.world.model,
            "candidate": {"latest": {}},
            "gates": [{"name": "accuracy", "metric": {"key": "accuracy", "bound": {"min": "0.9"}}}],
            "targets": [target(API)],
            "rollout": {"progressDeadline": "30s"},
        }
        merged = {key: value for key, value in {**base, **spec}.items() if value is not None}
        body = _object("podium.dev/v1alpha1", "ModelPromotion", name, merged)
        await self.do(self.world.apply, "modelpromotions", body)

    async def unpromote(self, name: str = "p") -> None:
        await self.do(self.world.cluster.call, "DELETE", self.world.path("modelpromotions", name))

    async def decide(self, name: str, action: str, **spec: Any) -> None:
        full = {"promotionRef": {"name": "p"}, "action": action, "decidedBy": "ann", **spec}
        body = _object("podium.dev/v1alpha1", "PromotionDecision", name, full)
        await self.do(self.world.apply, "promotiondecisions", body)

    async def deploy(self, name: str = API, fault: str = "") -> None:
        labels = {"app": name}
        annotations = {"podium.dev/kwok-fault": fault} if fault else {}
        template = {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"containers": [{"name": "server", "image": "serving"}]},
        }
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        body = _object("apps/v1", "Deployment", name, spec)
        await self.do(self.world.apply, "deployments", body, "apps/v1")

    async def annotate(self, annotations: Mapping[str, str], name: str = API) -> None:
        """Puts Podium's annotations of a pod template to these values, as `rollout undo` does."""
        wanted = {f"podium.dev/{key}": value for key, value in annotations.items()}
        body = {"spec": {"template": {"metadata": {"annotations": wanted}}}}
        path, kind = self.world.path("deployments", name, "apps/v1"), "application/merge-patch+json"
        await self.do(self.world.cluster.call, "PATCH", path, body, kind)

    async def spoil(self, pod: str, fault: str = "not-ready") -> None:
        """The node does this to the pod from now on."""
        body = {"metadata": {"annotations": {"podium.dev/kwok-fault": fault}}}
        path, kind = self.world.path("pods", pod, "v1"), "application/merge-patch+json"
        await self.do(self.world.cluster.call, "PATCH", path, body, kind)


Step = Callable[[Play], Awaitable[None]]


@dataclass(frozen=True)
class Story:
    """`good`: the versions that Podium may move the alias to. `sags`: pods lose their readiness
    by themselves, so that their number says nothing about Podium. `loads`: the alias that the
    pods of a Deployment load, where it is not champion; its promotion has the Deployment's name.
    `starts`: the operator starts with the story, so that its first calls are the story's too."""

    given: Step
    drive: Step
    end: Callable[[State], bool]
    good: str
    sags: bool = False
    loads: Mapping[str, str] = field(default_factory=dict)
    starts: bool = False


def target(deployment: str, version_mode: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": deployment,
        "deployment": {"name": deployment, "container": "server"},
    }
    if version_mode:
        found["modelSource"] = {"type": "Version", "envVar": "MODEL_URI"}
    return found


def settled(state: State) -> bool:
    attempt = state.attempt.get("phase")
    return state.condition("Ready").startswith("True") and attempt in ENDED


def at(version: str, *targets: str, stages: dict[str, str]) -> Callable[[State], bool]:
    """The alias, the stages, the status and each target agree on `version`."""

    def agrees(state: State) -> bool:
        return (
            settled(state)
            and state.alias == version
            and state.status.get("champion", {}).get("version") == version
            and all(state.serves(each, version) for each in targets)
            and state.stages == stages
        )

    return agrees


def phase(state: State) -> tuple[str, str]:
    return state.attempt.get("version", ""), state.attempt.get("phase", "")


def aliases(state: State) -> dict[str, str]:
    return {each["alias"]: each["version"] for each in state.model.get("aliases", [])}


def describe(state: State) -> str:
    """The state in a line, for what did not come true."""
    templates = {d: state.annotation(d, "model-version") for d in state.deployments}
    conditions = [f"{c}={state.condition(c)}" for c in ("Ready", "Stalled", "AttemptActive")]
    return (
        f"aliases {aliases(state)}, stages {state.stages}, targets {templates}, "
        f"attempt {phase(state)}, quarantined {sorted(state.quarantined)}, {', '.join(conditions)}"
    )


async def _nothing(play: Play) -> None:
    await play.deploy()
    await play.wait("pods", lambda s: s.ready(API) >= 2)


def _adopted(fault: str = "", targets: Sequence[str] = (API,), **spec: Any) -> Step:
    """Version 1 was champion before Podium came."""

    async def given(play: Play) -> None:
        await play.register(GOOD)
        await play.set_alias("1")
        await play.set_stage("1", "Production")
        for each in targets:
            await play.deploy(each, fault)
        await play.promote(targets=[target(each) for each in targets], **spec)
        await play.wait(
            "version 1 is taken over",
            lambda s: settled(s) and s.alias == "1" and all(s.ready(t) >= 2 for t in targets),
        )

    return given


async def _promoted_in_version_mode(play: Play) -> None:
    await play.register(GOOD)
    await play.deploy()
    await play.promote(targets=[target(API, version_mode=True)])
    await play.wait("version 1 serves", at("1", API, stages={"1": "Production"}))


def _promoted_in_alias_mode(fault: str = "") -> Step:
    """Version 1 became champion by Podium, so that its pods carry a move."""

    async def given(play: Play) -> None:
        await play.register(GOOD)
        await play.deploy(fault=fault)
        await play.promote()
        await play.wait("version 1 serves", at("1", API, stages={"1": "Production"}))

    return given


async def _promoted_twice(play: Play) -> None:
    await _adopted()(play)
    await play.register(GOOD)
    await play.wait("2 serves", at("2", API, stages=TWO))


async def _refused_second(play: Play) -> None:
    await _adopted()(play)
    await play.register(BAD)
    await play.wait("2 is refused", lambda s: phase(s) == ("2", "Rejected"))


async def _waiting_second(play: Play) -> None:
    await _adopted(supersede="Always", approval={"required": 1})(play)
    await play.register(GOOD)
    await play.wait("2 waits for approval", lambda s: phase(s) == ("2", "AwaitingApproval"))


async def _chain(play: Play) -> None:
    await play.deploy("api")
    await play.deploy("staging")
    staging = {"alias": "staging", "stage": "Staging", "targets": [target("staging")]}
    await play.promote("staging", **staging)
    await play.promote(candidate={"alias": "staging"}, gates=[])


async def _first(play: Play) -> None:
    await play.register(GOOD)
    await play.promote()


def _register(accuracy: float) -> Step:
    async def drive(play: Play) -> None:
        await play.register(accuracy)

    return drive


async def _second_loses_readiness(play: Play) -> None:
    await play.register(GOOD)
    state = await play.wait("2 bakes", lambda s: phase(s) == ("2", "Baking"))
    for pod in _pods_of(state, "2"):
        await play.spoil(pod)


def _pods_of(state: State, version: str) -> list[str]:
    annotations = {
        pod["metadata"]["name"]: pod["metadata"].get("annotations") or {} for pod in state.pods
    }
    return [n for n, a in annotations.items() if a.get("podium.dev/model-version") == version]


async def _old_pod_restarts(play: Play) -> None:
    """In place, while the alias is at 2: from then on it serves 2 as a pod of version 1."""
    await play.register(GOOD)
    state = await play.wait("2 rolls out", _rolls_out)
    old = _pods_of(state, "1")
    assert old, "no pod of version 1 is left to restart"
    await play.spoil(old[0], "restart-1")


def _rolls_out(state: State) -> bool:
    """Not told by the phase: a fault may leave Verifying too short for a look at it."""
    return state.alias == "2" and bool(_pods_of(state, "2")) and state.ready(API) >= 2


async def _undone_while_suspended(play: Play) -> None:
    """Somebody stops Podium and takes the Deployment back by hand, at once."""
    before = await play.do(play.world.state)
    await play.register(GOOD)
    await play.wait("2 serves", at("2", API, stages=TWO))
    await play.promote(suspend=True)
    names = ("model-version", "move-id")
    await play.annotate({name: before.annotation(API, name) for name in names})


async def _rollback_is_asked(play: Play) -> None:
    await play.decide("back", "Rollback", reason="answers look wrong")


async def _approved(play: Play) -> None:
    attempt = (await play.do(play.world.state)).attempt
    asked = {
        "attemptID": attempt["id"],
        "version": attempt["version"],
        "evidenceDigest": attempt["evidenceDigest"],
    }
    await play.decide("yes", "Approve", **asked)


async def _alias_is_moved_by_hand(play: Play) -> None:
    await play.set_alias("2")
    await asyncio.sleep(1.5)  # longer than a poll: else the end is there before it began


async def _deleted_and_made_again(play: Play) -> None:
    await play.register(GOOD)
    await play.wait("2 is on its way", lambda s: s.attempt.get("version") == "2")
    await play.unpromote()
    await asyncio.sleep(1.0)
    await play.promote()


TWO = {"1": "Archived", "2": "Production"}
BACK = {"1": "Production", "2": "Archived"}

STORIES = {
    "first-champion": Story(
        given=_nothing,
        drive=_first,
        end=at("1", API, stages={"1": "Production"}),
        good="1",
        starts=True,
    ),
    "second-champion-alias": Story(
        given=_adopted(), drive=_register(GOOD), end=at("2", API, stages=TWO), good="12"
    ),
    "second-champion-version": Story(
        given=_promoted_in_version_mode,
        drive=_register(GOOD),
        end=at("2", API, stages=TWO),
        good="12",
    ),
    "rejected": Story(
        given=_adopted(),
        drive=_register(BAD),
        end=lambda s: phase(s) == ("2", "Rejected") and s.alias == "1" and settled(s)
        and s.stages == {"1": "Production"},
        good="1",
    ),
    "rolled-back-in-verifying": Story(
        given=_adopted(fault="crash@2"),
        drive=_register(GOOD),
        end=lambda s: at("1", API, stages=BACK)(s) and s.quarantined == {"2"},
        good="12",
    ),
    "old-pod-restarted": Story(
        given=_promoted_in_alias_mode(fault="crash@2"),
        drive=_old_pod_restarts,
        end=lambda s: at("1", API, stages=BACK)(s) and s.quarantined == {"2"},
        good="12",
        sags=True,
    ),
    "rolled-back-in-baking": Story(
        given=_adopted(rollback={"bakeDuration": "60s"}),
        drive=_second_loses_readiness,
        end=lambda s: at("1", API, stages=BACK)(s) and s.quarantined == {"2"},
        good="12",
        sags=True,
    ),
    "rolled-back-by-decision": Story(
        given=_promoted_twice,
        drive=_rollback_is_asked,
        end=lambda s: at("1", API, stages=BACK)(s) and "hold" in s.status,
        good="1",
    ),
    "alias-drift": Story(
        given=_refused_second,
        drive=_alias_is_moved_by_hand,
        end=lambda s: s.alias == "1" and settled(s) and s.stages == {"1": "Production"},
        good="1",
    ),
    "superseded": Story(
        given=_waiting_second,
        drive=_register(GOOD),
        end=lambda s: phase(s) == ("3", "AwaitingApproval") and s.alias == "1",
        good="1",
    ),
    "approved": Story(
        given=_waiting_second, drive=_approved, end=at("2", API, stages=TWO), good="12"
    ),
    "deleted-in-mid-attempt": Story(
        given=_adopted(),
        drive=_deleted_and_made_again,
        end=at("2", API, stages=TWO),
        good="12",
    ),
    "undone-while-suspended": Story(
        given=_promoted_in_alias_mode(),
        drive=_undone_while_suspended,
        end=lambda s: s.alias == "2" and s.stages == TWO and s.serves(API, "1")
        and s.status.get("champion", {}).get("version") == "2",
        good="12",
    ),
    "two-targets": Story(
        given=_adopted(targets=(API, "second")),
        drive=_register(GOOD),
        end=at("2", API, "second", stages=TWO),
        good="12",
    ),
    "chain": Story(
        given=_chain,
        drive=_register(GOOD),
        end=lambda s: at("1", API, "staging", stages={"1": "Production"})(s)
        and aliases(s) == {"champion": "1", "staging": "1"},
        good="1",
        loads={"staging": "staging"},
    ),
}  # fmt: skip


def _object(api: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}
