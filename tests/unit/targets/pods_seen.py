"""Pods and Deployments as the API server gives them, made from the few fields that matter."""

from typing import Any

START = "2026-11-21T14:00:05Z"
CREATED = "2026-11-21T14:00:00Z"
LATER = "2026-11-21T14:05:00Z"


def container(name: str = "server", **fields: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "restartCount": 0, "state": {}, **fields}


def running(since: str = START) -> dict[str, Any]:
    return {"running": {"startedAt": since}}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


def terminated(code: int, reason: str = "Error", started: str = START) -> dict[str, Any]:
    end = {"exitCode": code, "reason": reason, "startedAt": started, "message": "token=s3cret"}
    return {"terminated": end}


def pod(
    *containers: dict[str, Any],
    ready: str = "False",
    ready_since: str = CREATED,
    ready_reason: str | None = "ContainersNotReady",
    conditions: tuple[dict[str, Any], ...] = (),
    deleted: bool = False,
    init: tuple[dict[str, Any], ...] = (),
    **status: Any,
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": ready_since}
    if ready_reason is not None and ready == "False":
        condition["reason"] = ready_reason
    owner = {"kind": "ReplicaSet", "name": "churn-5d4f", "controller": True, "uid": "r"}
    metadata: dict[str, Any] = {
        "name": "churn-5d4f-x",
        "labels": {"app": "churn", "pod-template-hash": "5d4f"},
        "annotations": {"podium.dev/move-id": "m1"},
        "ownerReferences": [owner],
    }
    if deleted:
        metadata["deletionTimestamp"] = LATER
    return {
        "metadata": metadata,
        "status": {
            "phase": "Running",
            "containerStatuses": list(containers),
            "initContainerStatuses": list(init),
            "conditions": [condition, *conditions],
            **status,
        },
    }


def deployment(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "churn"}, "annotations": {}},
        "spec": {"containers": [{"name": "server", "image": "server:1"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "churn", "namespace": "ml", "uid": "d1", "generation": 2},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "churn"}},
            "template": template,
            **spec,
        },
        "status": {
            "observedGeneration": 2,
            "replicas": 2,
            "updatedReplicas": 2,
            "readyReplicas": 2,
            "availableReplicas": 2,
        },
    }
