"""Short scenes that random steps hardly come to: something goes wrong just in some phase.

Each begins in whatever state the random steps have left, and only brings about what people,
pods, MLflow or the clock may do.
"""

from collections.abc import Callable
from datetime import timedelta

from podium.api.decision import DecisionAction
from podium.api.promotion import Stage
from podium.api.promotion_status import Verdict
from tests.unit.engine.choices import NOT_STARTED
from tests.unit.engine.iris import GATE
from tests.unit.engine.wild import WildWorld

Scene = Callable[[WildWorld], None]


def run(w: WildWorld, passes: int, most: float = 20) -> None:
    for _ in range(passes):
        w.advance(w.step(), timedelta(seconds=most))


def until(w: WildWorld, *phases: str) -> None:
    for _ in range(20):
        if w.phase in phases:
            return
        run(w, 1)


def newcomer(w: WildWorld, **spec: object) -> str:
    """All is well, nobody holds, and a new version is the candidate."""
    w.calm()
    w.spec = {**w.spec, "suspend": False, "candidate": {"latest": {}}, **spec}
    w.spec.setdefault("targets", [])
    run(w, 3)
    w.say(DecisionAction.RELEASE)
    run(w, 3)
    version = str(max(map(int, w.versions), default=0) + 1)
    w.register(version)
    return version


def later(w: WildWorld, seconds: float) -> None:
    w.now += timedelta(seconds=seconds)
    run(w, 4)


def fails_in(phase: str, how: dict[str, object]) -> Scene:
    def scene(w: WildWorld) -> None:
        newcomer(w, rollback={"bakeDuration": "40s" if phase == "Baking" else "0s"}, gates=[])
        until(w, phase)
        w.spoilt_pods["api"] = how
        run(w, 2)
        later(w, 45)
        w.spoilt_pods = {}
        run(w, 3)

    return scene


def readiness_is_lost(w: WildWorld) -> None:
    newcomer(w, gates=[], rollback={"bakeDuration": "40s"})
    until(w, "Baking")
    began = w.now - timedelta(minutes=1)
    w.spoilt_pods["api"] = {"ready": False, "container_started_at": began, "ready_lost_at": w.now}
    run(w, 4)
    w.spoilt_pods = {}


def only_an_archived_one_is_left(w: WildWorld) -> None:
    """Which nobody ever promoted here, so that nobody can tell whether it served."""
    newcomer(w, gates=[], rollback={})
    until(w, "Verifying")
    for version in w.versions:
        if version != w.alias:
            w.unready(version)
    left = str(max(map(int, w.versions)) + 1)
    w.register(left)
    w.to_stage(left, Stage.ARCHIVED)
    w.spoilt_pods["api"] = {"ready": False, "failed": True, "exits": 2}
    run(w, 4)
    w.spoilt_pods = {}


def no_pods(w: WildWorld) -> None:
    newcomer(w, gates=[])
    until(w, "Verifying")
    w.spoilt_targets["api"] = {"pods": (), "available": 0, "updated": 0, "trouble": "quota"}
    later(w, 45)


def comes_good_late(w: WildWorld) -> None:
    """Nothing to go back to, no room until its deadline, and the next one is refused meanwhile."""
    version = newcomer(w, gates=[GATE], approval=None, rollback={"bakeDuration": "40s"})
    until(w, "Verifying")
    for other in [v for v in w.versions if v != version]:
        w.unready(other)
    w.spoilt_targets["api"] = {"pods": (), "available": 0, "updated": 0, "trouble": "quota"}
    later(w, 45)
    until(w, "Rejected")
    w.register(str(int(version) + 1), verdict=Verdict.FAIL)
    run(w, 12)
    w.spoilt_targets = {}
    run(w, 6)


def template_changes(w: WildWorld) -> None:
    newcomer(w, gates=[])
    until(w, "Verifying")
    w.spoilt_targets["api"] = {"template": "t2", "available": 0}
    later(w, 45)


def rollback_fails(w: WildWorld) -> None:
    newcomer(w, gates=[])
    until(w, "Verifying")
    w.say(DecisionAction.ROLLBACK)
    until(w, "RollingBack")
    w.spoilt_pods["api"] = {"ready": False}
    later(w, 700)


def destination_goes(w: WildWorld) -> None:
    newcomer(w, gates=[])
    until(w, "Verifying")
    w.say(DecisionAction.ROLLBACK)
    until(w, "RollingBack")
    for other in [v for v in w.versions if v != w.alias]:
        w.unready(other)
    run(w, 4)


def gone_back_from(w: WildWorld, **spec: object) -> None:
    """A new version is promoted, and a person says Rollback without naming another."""
    newcomer(w, gates=[], rollback={}, approval=None, **spec)
    until(w, "Promoted")
    run(w, 3)
    w.say(DecisionAction.ROLLBACK)


def goes_back_twice(w: WildWorld) -> None:
    gone_back_from(w)
    until(w, "RolledBack")
    run(w, 3)
    w.say(DecisionAction.ROLLBACK)
    run(w, 6)


def goes_back_and_fails_again(w: WildWorld) -> None:
    gone_back_from(w)
    until(w, "RolledBack")
    run(w, 3)
    newcomer(w, gates=[], rollback={"bakeDuration": "40s"})
    until(w, "Baking")
    w.spoilt_pods["api"] = {"ready": False, "failed": True}
    later(w, 45)
    w.spoilt_pods = {}
    run(w, 3)


def cut_short(w: WildWorld) -> None:
    """Somebody moves the alias to a version of no concern, in the middle of a rollback."""
    gone_back_from(w, aliasDriftPolicy="Revert")
    until(w, "RollingBack")
    other = str(max(map(int, w.versions)) + 1)
    w.register(other, verdict=Verdict.FAIL)
    w.aliases[w.promotion.spec.alias] = other
    run(w, 8)


def version_goes(w: WildWorld) -> None:
    newcomer(w, gates=[], targets=[])
    until(w, "Promoting")
    run(w, 1)
    for version in w.versions:
        w.unready(version)
    run(w, 4)


def candidate_goes(w: WildWorld) -> None:
    """After the intent, and before anything has moved."""
    version = newcomer(w, gates=[], targets=[])
    until(w, "Promoting")
    for _ in range(5):
        if w.status.active and w.status.active.move_id is None:
            run(w, 1, most=0)
    w.unready(version)
    run(w, 4)


def no_slot(w: WildWorld) -> None:
    newcomer(w, gates=[])
    w.also_seen = {"rollout_slot": False}
    run(w, 8)
    w.also_seen = {}
    run(w, 1)


def suspended(w: WildWorld) -> None:
    newcomer(w, suspend=True)
    run(w, 3)
    w.spec["suspend"] = False
    run(w, 2)
    w.spec["suspend"] = True
    run(w, 2)
    w.spec["suspend"] = False


def people(what: str) -> Scene:
    def scene(w: WildWorld) -> None:
        version = newcomer(w, approval={"required": 1, "expireAfter": "1h"}, gates=[GATE])
        until(w, "AwaitingApproval")
        attempt = w.status.active
        if attempt is None:
            return
        evidence = {"attempt_id": attempt.id, "evidence_digest": attempt.evidence_digest or ""}
        match what:
            case "approve":
                w.say(DecisionAction.APPROVE, by="ann", **evidence)
            case "reject":
                w.say(DecisionAction.REJECT, by="ann", **evidence)
                run(w, 4)
                w.say(DecisionAction.RETRY, version=version)
            case "nothing":
                later(w, 4000)
            case "more":
                w.say(DecisionAction.APPROVE, by="ann", **evidence)
                until(w, "Promoting")
                w.spec["approval"] = {"required": 2, "expireAfter": "1h"}
            case "other gates":
                w.spec["gates"] = [{**GATE, "name": "other"}]
            case "other candidate":
                w.spec["candidate"] = {"version": version}
        run(w, 4)

    return scene


def gates_change_at_the_last_moment(w: WildWorld) -> None:
    newcomer(w, gates=[GATE])
    until(w, "Promoting")
    w.spec["gates"] = [{**GATE, "name": "other"}]
    run(w, 3)


def rejected_at_the_last_moment(w: WildWorld) -> None:
    version = newcomer(w, gates=[GATE])
    until(w, "Promoting")
    w.say(DecisionAction.REJECT, version=version)
    run(w, 3)


def gate_gives_no_verdict(w: WildWorld) -> None:
    version = newcomer(w, gates=[GATE])
    w.verdicts[version] = Verdict.ERROR
    until(w, "Validating")
    later(w, 700)


def created_again(w: WildWorld) -> None:
    newcomer(w, gates=[])
    until(w, "Verifying")
    w.create_again()
    w.register("1")
    run(w, 8)


def named_again(w: WildWorld) -> None:
    """A pin to what is in quarantine, of which every other is refused."""
    CRASHES(w)
    run(w, 8)
    if not w.status.quarantined:
        return
    version = w.status.quarantined[-1].version
    w.verdicts[version] = Verdict.FAIL if int(version) % 2 else Verdict.PASS
    w.spec |= {"candidate": {"version": version}, "gates": [GATE]}
    run(w, 20)


CRASHES = fails_in("Verifying", {"ready": False, "failed": True, "exits": 2})
SCENES: dict[str, Scene] = {
    "not ready in time": fails_in("Verifying", {"ready": False}),
    "fails once": fails_in("Verifying", {"ready": False, "failed": True, "exits": 1}),
    "crash loop": CRASHES,
    "evicted": fails_in("Verifying", {"ready": False, "disrupted": True}),
    "image": fails_in("Verifying", {**NOT_STARTED, "trouble": "image"}),
    "dies in bake": fails_in("Baking", {"ready": False, "failed": True}),
    "restarts in bake": fails_in("Baking", {"restarts": 1, "container_started_at": None}),
    "readiness lost": readiness_is_lost,
    "only archived": only_an_archived_one_is_left,
    "no pods": no_pods,
    "comes good late": comes_good_late,
    "template changes": template_changes,
    "rollback fails": rollback_fails,
    "destination goes": destination_goes,
    "goes back twice": goes_back_twice,
    "goes back and fails again": goes_back_and_fails_again,
    "cut short": cut_short,
    "version goes": version_goes,
    "candidate goes": candidate_goes,
    "no slot": no_slot,
    "suspended": suspended,
    **{
        what: people(what)
        for what in ("approve", "reject", "nothing", "more", "other gates", "other candidate")
    },
    "gates change": gates_change_at_the_last_moment,
    "rejected late": rejected_at_the_last_moment,
    "no verdict": gate_gives_no_verdict,
    "created again": created_again,
    "named again": named_again,
}
