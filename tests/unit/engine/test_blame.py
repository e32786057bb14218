"""Whose fault it is: a row is what is seen of the pods, and who is blamed for it."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from podium.api.promotion_status import AttemptStatus, Phase
from podium.api.reasons import Reason
from podium.engine import blame
from podium.engine.observation import Observation, PodState, TargetState
from tests.unit.engine.world import START, World

TARGET = {"name": "api", "deployment": {"name": "api", "container": "server"}}
EARLY, LATE = START + timedelta(minutes=1), START + timedelta(minutes=11)
ATTEMPT = AttemptStatus(
    id="7-a",
    version="7",
    phase=Phase.VERIFYING,
    started_at=START,
    phase_started_at=START,
    deadline=START + timedelta(minutes=10),
    move_id="m7",
)
STARTING = PodState(
    name="api-1",
    move_id="m7",
    ready=False,
    terminating=False,
    started=True,
    restarts=0,
    exits=0,
    failed=False,
    container_started_at=START,
)
WAITING = replace(STARTING, started=False, container_started_at=None)
READY = replace(STARTING, ready=True)
FAILED = replace(STARTING, failed=True)
ONCE = replace(FAILED, exits=1)
AGAIN = replace(FAILED, restarts=1, exits=1)
TWICE = replace(FAILED, restarts=1, exits=2, container_started_at=None)
THIRD_TRY = replace(FAILED, restarts=2, exits=2)
RECOVERED = replace(READY, failed=True, restarts=2, exits=2)


def seen(*pods: PodState, **target: object) -> Observation:
    state = TargetState(name="api", deployment="api", move_id="m7", pods=pods)
    observation = World({"model": "iris", "targets": [TARGET]}).observe()
    return replace(observation, targets=(replace(state, **target),))  # type: ignore[arg-type]


def of_rollout(
    now: datetime, *pods: PodState, attempt: AttemptStatus = ATTEMPT, **target: object
) -> tuple[bool, Reason] | None:
    found = blame.of_rollout(seen(*pods, **target), attempt, now)
    return (found.at_fault, found.reason) if found else None


VERSION = True
NOBODY = False

BEFORE_THE_DEADLINE = {
    "no pod yet": ((), None),
    "not started yet": ((WAITING,), None),
    "loads its model": ((STARTING,), None),
    "failed once": ((ONCE,), None),
    "failed once, runs again": ((AGAIN,), None),
    "failed twice": ((TWICE,), (VERSION, Reason.CONTAINER_FAILED)),
    "failed twice, runs again": ((THIRD_TRY,), (VERSION, Reason.CONTAINER_FAILED)),
    "failed twice, serves now": ((RECOVERED,), None),
    "one of two failed twice": ((READY, TWICE), (VERSION, Reason.CONTAINER_FAILED)),
    "failed twice and was evicted": ((replace(TWICE, disrupted=True),), None),
    "failed twice and is going": ((replace(TWICE, terminating=True),), None),
    "a pod of another move failed twice": ((replace(TWICE, move_id="m6"),), None),
    "restarted twice, not by failing": ((replace(STARTING, restarts=2, exits=2),), None),
    "no image": ((replace(WAITING, trouble="ImagePullBackOff"),), None),
}


@pytest.mark.parametrize("name", BEFORE_THE_DEADLINE)
def test_before_the_deadline_only_a_crash_loop_decides(name: str) -> None:
    pods, blamed = BEFORE_THE_DEADLINE[name]
    assert of_rollout(EARLY, *pods) == blamed


UNSCHEDULABLE = replace(WAITING, trouble="Unschedulable: 0/3 nodes")

AT_THE_DEADLINE = {
    "no pod (quota)": ((), (NOBODY, Reason.PROGRESS_DEADLINE)),
    "not started": ((WAITING,), (NOBODY, Reason.PROGRESS_DEADLINE)),
    "no node takes it": ((UNSCHEDULABLE,), (NOBODY, Reason.PROGRESS_DEADLINE)),
    "evicted": ((replace(ONCE, disrupted=True),), (NOBODY, Reason.PROGRESS_DEADLINE)),
    "started, not ready": ((STARTING,), (VERSION, Reason.NOT_READY_IN_TIME)),
    "failed once": ((ONCE,), (VERSION, Reason.CONTAINER_FAILED)),
    "failed once, serves now; another has no node": (
        (replace(RECOVERED, restarts=1, exits=1), UNSCHEDULABLE),
        (NOBODY, Reason.PROGRESS_DEADLINE),
    ),
    "a sidecar is not ready": (
        (replace(STARTING, trouble="container proxy is not ready"),),
        (NOBODY, Reason.PROGRESS_DEADLINE),
    ),
}


@pytest.mark.parametrize("name", AT_THE_DEADLINE)
def test_at_the_deadline(name: str) -> None:
    pods, blamed = AT_THE_DEADLINE[name]
    assert of_rollout(LATE, *pods) == blamed


BACK = START + timedelta(seconds=30)  # the registry was away until then
DURING = replace(TWICE, failed_run_began=START + timedelta(seconds=10))
AFTER = replace(TWICE, failed_run_began=START + timedelta(seconds=40))
SINCE_THEN = timedelta(minutes=10)

THE_REGISTRY_WAS_AWAY = {
    "crashed without it": (EARLY, DURING, None),
    "crashes with it as well": (EARLY, AFTER, (VERSION, Reason.CONTAINER_FAILED)),
    "still loads at the attempt's deadline": (
        BACK + SINCE_THEN - timedelta(seconds=1),
        DURING,
        None,
    ),
    "not ready though it had the whole time again": (
        BACK + SINCE_THEN,
        STARTING,
        (VERSION, Reason.NOT_READY_IN_TIME),
    ),
    "not started again": (BACK + SINCE_THEN, DURING, (NOBODY, Reason.PROGRESS_DEADLINE)),
}


@pytest.mark.parametrize("name", THE_REGISTRY_WAS_AWAY)
def test_no_version_is_blamed_for_a_registry_that_was_away(name: str) -> None:
    now, pod, blamed = THE_REGISTRY_WAS_AWAY[name]
    observation = replace(seen(pod), registry_back_at=BACK)
    found = blame.of_rollout(observation, ATTEMPT, now)
    assert ((found.at_fault, found.reason) if found else None) == blamed


OWN_DEADLINE = {
    "still has the time again": (BACK, None),
    "began when the registry was back": (START, (VERSION, Reason.NOT_READY_IN_TIME)),
}


@pytest.mark.parametrize("name", OWN_DEADLINE)
def test_the_deployments_own_deadline_excuses_the_registry_too(name: str) -> None:
    back_at, blamed = OWN_DEADLINE[name]
    exceeded = seen(STARTING, progress_deadline_exceeded=True)
    found = blame.of_rollout(replace(exceeded, registry_back_at=back_at), ATTEMPT, EARLY)
    assert ((found.at_fault, found.reason) if found else None) == blamed


def test_the_deployments_own_deadline_counts_as_well() -> None:
    assert of_rollout(EARLY, STARTING, progress_deadline_exceeded=True) == (
        VERSION,
        Reason.NOT_READY_IN_TIME,
    )


def test_a_quota_is_named_in_the_deployments_words() -> None:
    said = 'FailedCreate: pods "api-1" is forbidden: exceeded quota: small'
    found = blame.of_rollout(seen(trouble=said), ATTEMPT, LATE)
    assert found is not None
    assert found.message == f"no pod was created by the deadline: {said}"


def test_but_not_what_its_controller_said_of_an_earlier_template() -> None:
    stale = {"progress_deadline_exceeded": True, "observed": False}
    assert of_rollout(EARLY, STARTING, **stale) is None


def test_a_template_that_the_user_changed_meanwhile_excuses_the_version() -> None:
    before = structs.replace(ATTEMPT, templates="an earlier digest")
    assert of_rollout(EARLY, TWICE, attempt=before) == (NOBODY, Reason.TEMPLATE_CHANGED)
    assert of_rollout(LATE, STARTING, attempt=before) == (NOBODY, Reason.TEMPLATE_CHANGED)


BAKING = {
    "serves": (READY, None),
    "a new pod still starts": (STARTING, None),
    "a new pod waits for a node": (UNSCHEDULABLE, None),
    "failed": (ONCE, Reason.CONTAINER_FAILED),
    "restarts": (replace(TWICE, exits=2), Reason.CONTAINER_RESTARTED),
    "restarted in the bake": (
        replace(RECOVERED, container_started_at=EARLY),
        Reason.CONTAINER_RESTARTED,
    ),
    "restarted before the bake": (replace(RECOVERED, container_started_at=START), None),
    "lost readiness": (
        replace(STARTING, ready_lost_at=EARLY),
        Reason.READINESS_LOST,
    ),
    "lost readiness within a second, of whole seconds": (
        replace(STARTING, ready_lost_at=START + timedelta(seconds=1)),
        None,
    ),
    "drained": (replace(ONCE, disrupted=True), None),
    "going": (replace(ONCE, terminating=True), None),
    "of another move": (replace(ONCE, move_id="m6"), None),
}


@pytest.mark.parametrize("name", BAKING)
def test_what_ends_a_bake(name: str) -> None:
    pod, reason = BAKING[name]
    found = blame.of_bake(seen(pod), ATTEMPT, EARLY)
    assert (found.reason if found else None) is reason
    assert found is None or found.at_fault


def test_a_pod_that_never_gets_ready_ends_a_bake_too() -> None:
    at_once = replace(STARTING, ready_lost_at=START)  # ready for less than a second
    for pod in (STARTING, at_once):
        found = blame.of_bake(seen(pod), ATTEMPT, LATE)
        assert found is not None and found.at_fault
        assert found.reason is Reason.NOT_READY_IN_TIME
    assert blame.of_bake(seen(UNSCHEDULABLE), ATTEMPT, LATE) is None
    back = replace(seen(STARTING), registry_back_at=LATE - timedelta(minutes=1))
    assert blame.of_bake(back, ATTEMPT, LATE) is None


WORDS = {
    "failed": (replace(TWICE, exit_message="no model"), "api-1 failed, 1 restarts: no model"),
    "failed without a word": (TWICE, "the container of pod api-1 failed, 1 restarts"),
    "not ready": (STARTING, "pod api-1 started but was not ready at the deadline"),
    "no node": (UNSCHEDULABLE, "pod api-1: Unschedulable: 0/3 nodes"),
    "evicted": (
        replace(ONCE, disrupted=True),
        "pod api-1: it was evicted or its node was lost",
    ),
    "not started": (
        WAITING,
        "the rollout did not finish by the deadline, though no container failed: see the events "
        "of the ReplicaSet",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_blame_names_the_pod_and_why(name: str) -> None:
    pod, words = WORDS[name]
    found = blame.of_rollout(seen(pod), ATTEMPT, LATE)
    assert found is not None
    assert found.message.endswith(words)


def test_a_container_that_was_not_started_since_the_registry_is_back_is_named() -> None:
    observation = replace(seen(DURING), registry_back_at=BACK)
    found = blame.of_rollout(observation, ATTEMPT, BACK + SINCE_THEN)
    assert found is not None
    assert found.message.startswith("pod api-1 failed while the registry was away")


WORDS_OF_A_BAKE = {
    "failed": (ONCE, "the container of pod api-1 failed, 0 restarts"),
    "lost readiness": (
        replace(STARTING, ready_lost_at=EARLY),
        "pod api-1 was ready and is not any more",
    ),
    "never ready": (
        STARTING,
        "pod api-1 started and was not ready within rollout.progressDeadline",
    ),
}


@pytest.mark.parametrize("name", WORDS_OF_A_BAKE)
def test_the_end_of_a_bake_names_the_pod_and_why(name: str) -> None:
    pod, words = WORDS_OF_A_BAKE[name]
    found = blame.of_bake(seen(pod), ATTEMPT, LATE)
    assert found is not None
    assert found.message == words


def test_a_drained_pod_hides_no_bad_one() -> None:
    drained = replace(READY, name="api-0", disrupted=True)
    found = blame.of_bake(seen(drained, ONCE), ATTEMPT, EARLY)
    assert found is not None and "api-1" in found.message


def test_a_pod_has_the_whole_deadline_to_get_ready_in_a_bake() -> None:
    due = START + timedelta(minutes=10)
    assert blame.of_bake(seen(STARTING), ATTEMPT, due - timedelta(seconds=1)) is None
    found = blame.of_bake(seen(STARTING), ATTEMPT, due)
    assert found is not None and found.reason is Reason.NOT_READY_IN_TIME
