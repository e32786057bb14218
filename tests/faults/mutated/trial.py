"""One case: the scene, the change, what came of it, and the valid resource again."""

import difflib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.faults.mutated import bases, oracle
from tests.faults.mutated.api import Answer
from tests.faults.mutated.bases import Spec, filled
from tests.faults.mutated.changes import MID_ATTEMPT, Change, Moment
from tests.faults.mutated.scene import Scene, SetupError, caught_up, condition, describe
from tests.faults.mutated.slot import Counts, Slot
from tests.faults.world import State

CONVERGES = 90.0  # seconds until status speaks of the change and nothing moves any more
RETURNS = 180.0  # seconds until the valid resource is served again; a bake of 12 s is in it
QUIET = 3.0  # seconds without a write
ON_ITS_WAY = ("TargetNotReady", "RollingOut", "Claiming")
PATIENT = 3  # times QUIET, where something is still on its way
# Per second at rest. A poll each second looks once at every attempt; twice that is no loop yet.
MOST_PASSES, MOST_KUBERNETES, MOST_REGISTRY = 4.0, 8.0, 20.0


@dataclass(frozen=True)
class Case:
    """`act` makes the change and gives the API server's answer, `undo` the valid resource again.

    `expect`: one of these reasons must be told, when they are known beforehand.
    """

    name: str
    kind: str
    moment: Moment
    act: Callable[[Scene], Answer | None]
    undo: Callable[[Scene], None]
    base: Spec = field(default_factory=lambda: bases.FULL)
    expect: frozenset[str] = frozenset()
    change: Change | None = None

    @property
    def field(self) -> str:
        return self.change.field if self.change else "spec"

    @property
    def story(self) -> str:
        """What is changed, as people would tell it."""
        return diff(self.change) if self.change else self.name


@dataclass
class Result:
    """No `violations`: refused with a sentence, or everything held."""

    case: Case
    word: str = "held"  # refused, held, missed (the moment had passed), violated
    violations: list[str] = field(default_factory=list)
    told: str = ""
    seconds: float = 0.0
    converged: float = 0.0
    rates: Counts = field(default_factory=Counts)
    before: tuple[str, ...] = ()  # cases that were played in the same scene
    log: str = ""

    def __str__(self) -> str:
        lines = [f"{self.case.name}: {self.word}", self.case.story, *self.violations]
        if self.before:
            lines.append(f"in a scene in which these were played before: {list(self.before)}")
        return "\n".join([*lines, *self.log.splitlines()[-30:]])


def of_change(change: Change, moment: Moment, base: Spec | None = None, **more: Any) -> Case:
    """The case of a change that the API server gets to see."""
    name = f"{moment.value}/{change}"
    object_name = "mlflow" if change.kind == "ModelRegistry" else "p"
    if change.kind == "PromotionDecision":
        object_name = "said"

    def act(scene: Scene) -> Answer:
        return scene.put(change.kind, object_name, filled(change.spec, scene.words()))

    def undo(scene: Scene) -> None:
        if change.kind == "PromotionDecision":
            scene.put(change.kind, "said-well", filled(dict(change.before), scene.words()))
        elif change.kind == "ModelRegistry":
            scene.put(change.kind, object_name, filled(dict(change.before), scene.words()))
        elif moment is Moment.CREATED:
            scene.delete("modelpromotions", "p")

    return Case(name, change.kind, moment, act, undo, base or bases.FULL, change=change, **more)


def diff(change: Change) -> str:
    """The change as people write it."""
    before, after = (
        yaml.safe_dump({"spec": each}, sort_keys=False, allow_unicode=True).splitlines()
        for each in (_plain(change.before), change.spec)
    )
    shown = [
        line if len(line) < 160 else f"{line[:140]}... ({len(line)} characters)"
        for line in difflib.unified_diff(before, after, "valid", "changed", lineterm="", n=2)
    ]
    return "\n".join(shown)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value


def play(slot: Slot, mlflow: str, case: Case) -> Result:
    result = Result(case)
    began = time.monotonic()
    slot.begin()
    before = slot.counts()
    try:
        scene = _scene(slot, mlflow, case)
        result.before = tuple(scene.played)
        _change_and_look(scene, case, result)
        if _as_it_was(scene, case, result):
            scene.played.append(case.name)
            slot.kept = scene
    except SetupError as error:
        result.violations.append(f"the scene could not be set: {error}")
    except AssertionError as error:
        result.violations.append(str(error))
    except Exception as error:
        told = "".join(traceback.format_exception(error)[-3:])
        result.violations.append(f"the trial itself met with {error!r}\n{told}")
    result.violations += slot.troubles()
    if slot.alive and (slot.counts() - before).unexpected:
        result.violations.append("a pass met with an error that nobody expected")
    result.log, result.seconds = slot.log(), time.monotonic() - began
    if result.violations:
        result.word = "violated"
    return result


def _scene(slot: Slot, mlflow: str, case: Case) -> Scene:
    """At rest, the one of the case before, if all is again as it was in the beginning: to make
    another one takes longer than to play in it."""
    kept, slot.kept = slot.kept, None
    if isinstance(kept, Scene) and case.moment not in MID_ATTEMPT and kept.base == case.base:
        kept.moment = case.moment
        if case.moment is Moment.CREATED:
            kept.delete("modelpromotions", "p")
        return kept
    scene = Scene(slot, mlflow, case.moment, case.base)
    scene.make()
    scene.bring_about()
    return scene


def _as_it_was(scene: Scene, case: Case, result: Result) -> bool:
    if case.moment in MID_ATTEMPT or result.word != "held" or result.violations:
        return False
    if case.kind not in ("ModelPromotion", "ModelRegistry"):
        return False
    state = scene.state()
    attempted = {each["action"] for each in oracle.ledger(state)} - {"Adopted"}
    return not attempted and scene.serves(state.promotion, scene.settled)


def _change_and_look(scene: Scene, case: Case, result: Result) -> None:
    answer = case.act(scene)
    if answer is not None and not answer.ok:
        result.word, result.told = "refused", answer.message
        if unclear := oracle.unclear_refusal(answer, case.field):
            result.violations.append(unclear)
        return
    if case.moment in MID_ATTEMPT and answer is not None and case.kind == "ModelPromotion":
        landed = (answer.body.get("status") or {}).get("attempt", {}).get("phase")
        if landed != case.moment.value:
            result.word, result.told = "missed", f"the attempt was {landed} already"
            return
    specs = _converge(scene, case, result)
    result.told = _told(scene, case)
    case.undo(scene)
    scene.deployments()
    if scene.promotion().get("spec") != scene.valid:
        scene.promote(scene.valid)
    state = _return(scene)
    specs.append(dict(state.promotion["spec"]))
    result.violations += oracle.untold(state.promotion)
    result.violations += oracle.disagreements(scene, state, specs)
    result.violations += oracle.ledger_troubles(scene.world, state)


def _violations(
    scene: Scene, case: Case, state: State, specs: list[Mapping[str, Any]]
) -> list[str]:
    found = []
    if state.promotion:
        found += oracle.untold(state.promotion)
        found += oracle.disagreements(scene, state, specs)
    if case.kind == "ModelRegistry":
        found += oracle.untold(scene.get("ModelRegistry", "mlflow"))
    told = {
        each["reason"]
        for resource in (state.promotion, scene.get("ModelRegistry", "mlflow"))
        for each in resource.get("status", {}).get("conditions", [])
    }
    if case.expect and not case.expect & told:
        found.append(f"expected to be told one of {sorted(case.expect)}, not {sorted(told)}")
    return found


def _told(scene: Scene, case: Case) -> str:
    if case.kind == "PromotionDecision":
        status = scene.get("PromotionDecision", "said").get("status", {})
        return f"{status.get('outcome')}: {status.get('message', '')}"
    kind = case.kind if case.kind == "ModelRegistry" else "ModelPromotion"
    name = "mlflow" if kind == "ModelRegistry" else "p"
    return describe(scene.get(kind, name)) if scene.get(kind, name) else "deleted"


def _converge(scene: Scene, case: Case, result: Result) -> list[Mapping[str, Any]]:
    """Until nothing moves any more and what is said agrees with what is; or until time is up.
    Gives the specs that were in force."""
    began = time.monotonic()
    seen, since, counts = "", began, scene.slot.counts()
    while True:
        now = time.monotonic()
        late = now - began > CONVERGES
        waiting = _not_converged(scene, case)
        version = _versions(scene, case)
        if version != seen:
            seen, since, counts = version, now, scene.slot.counts()
        elif waiting is None and now - since >= QUIET * (PATIENT if _on_its_way(scene) else 1):
            done = scene.slot.counts() - counts
            result.rates = Counts(*(each / (now - since) for each in vars(done).values()))
            result.converged = since - began
            state = scene.state()
            specs: list[Mapping[str, Any]] = [scene.valid]
            if case.kind == "ModelPromotion" and state.promotion:
                specs.append(dict(state.promotion["spec"]))
            violations = _violations(scene, case, state, specs)
            if late or not violations:
                result.violations += violations + _hot(result.rates)
                return specs
        if now - began > CONVERGES + 2 * PATIENT * QUIET:
            raise AssertionError(f"not within {CONVERGES:.0f} s: {waiting or 'it keeps writing'}")
        time.sleep(0.4)


def _on_its_way(scene: Scene) -> bool:
    """Pods are starting, or the claim is being read back: that may go on for a while."""
    return condition(scene.promotion(), "Ready").get("reason") in ON_ITS_WAY


def _hot(rates: Counts) -> list[str]:
    most = vars(Counts(MOST_PASSES, 0, MOST_KUBERNETES, MOST_REGISTRY))
    return [
        f"a hot loop: {rate:.1f} {name} a second at rest, at most {most[name]}"
        for name, rate in vars(rates).items()
        if rate > most[name]
    ]


def _versions(scene: Scene, case: Case) -> str:
    kinds = [("ModelPromotion", "p")]
    if case.kind == "ModelRegistry":
        kinds.append(("ModelRegistry", "mlflow"))
    found = [scene.get(*each).get("metadata", {}).get("resourceVersion", "") for each in kinds]
    return " ".join(found)


def _not_converged(scene: Scene, case: Case) -> str | None:
    promotion = scene.promotion()
    if promotion and not caught_up(promotion):
        return f"status speaks of an older generation: {describe(promotion)}"
    if case.kind == "ModelRegistry":
        registry = scene.get("ModelRegistry", "mlflow")
        if registry and not caught_up(registry):
            return f"the registry's status speaks of an older generation: {describe(registry)}"
    if case.kind == "PromotionDecision":
        said = scene.get("PromotionDecision", "said")
        concerns = said.get("spec", {}).get("promotionRef", {}).get("name") == "p"
        status = said.get("status", {})
        if concerns and len(status.get("message", "")) < oracle.SENTENCE:
            return f"the decision is not answered with a sentence: {status}"
    return None


def _return(scene: Scene) -> State:
    """Until the valid promotion has had its way and MLflow has the whole ledger."""
    end = time.monotonic() + RETURNS
    while True:
        scene.let_go_on()
        missing = oracle.not_ready(scene)
        if missing is None:
            state = scene.state()
            missing = oracle.not_settled(scene, state)
        if missing is None:
            broken = oracle.ledger_troubles(scene.world, state)
            if not broken:
                return state
            missing = "; ".join(broken)
        if time.monotonic() > end:
            raise AssertionError(f"the valid resource is not served again: {missing}")
        assert scene.slot.alive, "the operator ended by itself"
        time.sleep(0.4)
