"""What a pod's status says about the version: a row is a pod, and what is seen of it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from podium.engine.observation import PodState
from podium.targets.pods import pod_state
from tests.unit.targets.pods_seen import (
    CREATED,
    LATER,
    container,
    pod,
    running,
    terminated,
    waiting,
)

EPOCH = "1970-01-01T00:00:00Z"


def see(raw: dict[str, Any]) -> PodState:
    return pod_state(raw, "server")


def scheduled(status: str, reason: str) -> dict[str, Any]:
    return {"type": "PodScheduled", "status": status, "reason": reason, "message": "0/3 nodes"}


SERVING = container(ready=True, state=running())
CRASHED = container(restartCount=3, state=waiting("CrashLoopBackOff"), lastState=terminated(1))
CRASHED_ONCE_MORE = pod(
    container(restartCount=1, state=waiting("CrashLoopBackOff"), lastState=terminated(1))
)
DISRUPTION = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}

BLAMED = {
    "exited with an error": pod(container(state=terminated(1))),
    "crash loop": pod(CRASHED),
    "crash loop with exit code 0": pod(
        container(
            restartCount=3,
            state=waiting("CrashLoopBackOff"),
            lastState=terminated(0, "Completed"),
        )
    ),
    "runs again after an error": pod(
        container(restartCount=1, ready=True, state=running(LATER), lastState=terminated(2)),
        ready="True",
    ),
    "out of its own memory limit": pod(container(state=terminated(137, "OOMKilled"))),
    "failed before it was deleted": pod(
        container(restartCount=1, state=terminated(143), lastState=terminated(1)), deleted=True
    ),
}


@pytest.mark.parametrize("name", BLAMED)
def test_a_container_that_ran_and_failed_speaks_against_the_version(name: str) -> None:
    seen = see(BLAMED[name])
    assert seen.started
    assert seen.failed
    assert not seen.disrupted
    assert seen.exit_message
    assert "s3cret" not in seen.exit_message


NOT_BLAMED = {
    "serves": pod(SERVING, ready="True"),
    "starts": pod(container(state=waiting("ContainerCreating"))),
    "still loads the model": pod(container(state=running())),
    "ended well once": pod(
        container(restartCount=1, state=running(LATER), lastState=terminated(0, "Completed"))
    ),
    "stopped by its deletion": pod(container(state=terminated(143)), deleted=True),
    "killed by its deletion": pod(container(state=terminated(137)), deleted=True),
    "evicted": pod(container(state=terminated(137)), phase="Failed", reason="Evicted"),
    "preempted": pod(container(state=terminated(137)), phase="Failed", reason="Preempting"),
    "drained": pod(container(state=terminated(143)), conditions=(DISRUPTION,)),
    "node shut down": pod(container(state=terminated(143)), phase="Failed", reason="Terminated"),
    "node rebooted": pod(
        container(restartCount=1, state=running(LATER), lastState=terminated(255, "Unknown"))
    ),
    "kubelet lost track": pod(container(state=terminated(137, "ContainerStatusUnknown"))),
    "process could not be started": pod(
        container(
            restartCount=2,
            state=waiting("CrashLoopBackOff"),
            lastState=terminated(128, "StartError", EPOCH),
        )
    ),
    "sidecar crashes": pod(
        SERVING,
        container("proxy", restartCount=9, state=waiting("CrashLoopBackOff")),
    ),
    "init container fails": pod(
        container(state=waiting("PodInitializing")),
        init=(container("fetch", state=waiting("CrashLoopBackOff"), lastState=terminated(1)),),
    ),
}


@pytest.mark.parametrize("name", NOT_BLAMED)
def test_what_others_did_does_not_speak_against_the_version(name: str) -> None:
    seen = see(NOT_BLAMED[name])
    assert not seen.failed
    assert seen.exit_message is None


DISRUPTED = ("evicted", "preempted", "drained", "node shut down")


@pytest.mark.parametrize("name", NOT_BLAMED)
def test_disruption_is_told_apart(name: str) -> None:
    assert see(NOT_BLAMED[name]).disrupted is (name in DISRUPTED)


def test_a_node_that_fell_silent_is_a_disruption() -> None:
    silent = pod(
        SERVING,
        ready_since=LATER,
        ready_reason=None,
        conditions=({"type": "ContainersReady", "status": "True"},),
    )
    assert see(silent).disrupted


EXITS = [
    (NOT_BLAMED["starts"], 0),
    (NOT_BLAMED["serves"], 0),
    (BLAMED["exited with an error"], 1),
    (BLAMED["runs again after an error"], 1),
    (CRASHED_ONCE_MORE, 2),
    (BLAMED["crash loop"], 4),
    (pod(container(restartCount=1, state=terminated(1), lastState=terminated(1))), 2),
    (NOT_BLAMED["stopped by its deletion"], 0),
    (NOT_BLAMED["evicted"], 0),
    (NOT_BLAMED["sidecar crashes"], 0),
]


@pytest.mark.parametrize(("raw", "exits"), EXITS)
def test_exits_are_counted_whether_or_not_it_runs_again(raw: dict[str, Any], exits: int) -> None:
    assert see(raw).exits == exits


TROUBLE = [
    (pod(conditions=(scheduled("False", "Unschedulable"),)), "Unschedulable: 0/3 nodes"),
    (pod(conditions=(scheduled("False", "SchedulingGated"),)), "SchedulingGated: 0/3 nodes"),
    (pod(container(state=waiting("ImagePullBackOff"))), "container server: ImagePullBackOff"),
    (pod(container(state=waiting("ErrImagePull"))), "container server: ErrImagePull"),
    (
        pod(container(state=waiting("CreateContainerConfigError"))),
        "container server: CreateContainerConfigError",
    ),
    (NOT_BLAMED["init container fails"], "init container fetch: CrashLoopBackOff"),
    (NOT_BLAMED["sidecar crashes"], "container proxy: CrashLoopBackOff"),
    (
        NOT_BLAMED["process could not be started"],
        "container server could not be started (StartError)",
    ),
    (
        pod(SERVING, container("proxy", state=running())),
        "container proxy is not ready",
    ),
    (pod(CRASHED), None),
    (NOT_BLAMED["still loads the model"], None),
    (NOT_BLAMED["starts"], None),
    (NOT_BLAMED["serves"], None),
]


@pytest.mark.parametrize(("raw", "trouble"), TROUBLE)
def test_trouble_is_named(raw: dict[str, Any], trouble: str | None) -> None:
    assert see(raw).trouble == trouble


def test_a_pod_that_never_started_has_not_started() -> None:
    for name in ("starts", "process could not be started", "init container fails"):
        assert not see(NOT_BLAMED[name]).started


def test_only_the_targets_container_counts() -> None:
    seen = see(NOT_BLAMED["sidecar crashes"])
    assert seen.restarts == 0
    assert seen.started


def test_readiness_that_was_lost_is_told_from_readiness_that_never_came() -> None:
    never = see(pod(container(state=running()), ready_since=CREATED))
    assert never.ready_lost_at is None
    lost = see(pod(container(state=running()), ready_since=LATER))
    assert lost.ready_lost_at == datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
    crash_looping = see(pod(CRASHED, ready_since=CREATED))
    assert crash_looping.ready_lost_at is None


def test_a_ready_pod_says_since_when() -> None:
    seen = see(pod(SERVING, ready="True", ready_since=LATER))
    assert seen.ready
    assert seen.ready_since == datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
    assert seen.container_started_at == datetime(2026, 11, 21, 14, 0, 5, tzinfo=UTC)
    assert seen.move_id == "m1"
    assert seen.trouble is None


def test_the_start_of_the_run_that_failed_is_known() -> None:
    assert see(pod(CRASHED)).failed_run_began == datetime.fromisoformat(
        CRASHED["lastState"]["terminated"]["startedAt"]
    )
    assert see(pod(SERVING)).failed_run_began is None
