"""A Deployment as a serving target: what is seen of it, and what Podium applies to it.

Pure functions over objects as the API server gives them. Sends and reads nothing; what a pod's
trouble means for the version is judged in `pods`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import cast

from podium.api.promotion import ModelSourceType, Target
from podium.api.reasons import Reason
from podium.cluster.errors import OwnedField
from podium.cluster.resources import Raw
from podium.engine.digests import digest
from podium.engine.observation import Problem, ProblemKind, TargetState
from podium.targets.pods import MOVE_ID, mapping, pod_state, sequence

MODEL_VERSION = "podium.dev/model-version"
MAX_FIELD_MANAGER = 128  # the API server's limit, in characters
_ANNOTATIONS = ".spec.template.metadata.annotations."


def field_manager(promotion_name: str) -> str:
    """The server-side apply manager of one promotion: `podium-<name>`, cut and hashed if long."""
    manager = f"podium-{promotion_name}"
    if len(manager) <= MAX_FIELD_MANAGER:
        return manager
    mark = hashlib.sha256(promotion_name.encode()).hexdigest()[:10]
    return f"{manager[: MAX_FIELD_MANAGER - 11]}-{mark}"


def observe(
    target: Target, deployment: Raw | None, pods: Sequence[Raw] | None, autoscaled: bool
) -> TargetState:
    """The target as it is. `pods` are those of the Deployment's selector, or None if not read."""
    name = target.deployment.name
    if deployment is None or mapping(deployment, "metadata").get("deletionTimestamp"):
        gone = "does not exist" if deployment is None else "is being deleted"
        message = f"Deployment {name} {gone}: create it, or change spec.targets."
        problem = Problem(ProblemKind.WAITING, Reason.TARGET_NOT_FOUND, message)
        return TargetState(target.name, name, problem=problem)
    container = _container(target, deployment)
    if isinstance(container, Problem):
        return TargetState(target.name, name, problem=container)
    metadata, spec = mapping(deployment, "metadata"), mapping(deployment, "spec")
    status = mapping(deployment, "status")
    annotations = mapping(deployment, "spec", "template", "metadata", "annotations")
    container_name = str(container["name"])
    move_id = _text(annotations.get(MOVE_ID))
    own = (pod for pod in pods or () if _owns(name, pod) and not _is_past(pod, move_id))
    return TargetState(
        name=target.name,
        deployment=name,
        model_version=_text(annotations.get(MODEL_VERSION)),
        move_id=move_id,
        env_value=_env_value(target, container),
        template=_template_digest(target, deployment, container_name),
        observed=_number(status, "observedGeneration") >= _number(metadata, "generation"),
        desired=_number(spec, "replicas", 1),
        replicas=_number(status, "replicas"),
        updated=_number(status, "updatedReplicas"),
        ready=_number(status, "readyReplicas"),
        available=_number(status, "availableReplicas"),
        progress_deadline_exceeded=_progress_deadline_exceeded(status),
        trouble=_trouble(status),
        paused=spec.get("paused") is True,
        recreate=mapping(spec, "strategy").get("type") == "Recreate",
        autoscaled=autoscaled,
        pods=None if pods is None else tuple(pod_state(pod, container_name) for pod in own),
    )


def apply_body(
    target: Target, deployment: Raw, *, model: str, version: str, move_id: str
) -> Raw | Problem:
    """Every field that Podium owns in the Deployment that was read, and nothing else.

    It carries that Deployment's uid: the API server then refuses to create or to change another.
    """
    container = _container(target, deployment)
    if isinstance(container, Problem):
        return container
    metadata = mapping(deployment, "metadata")
    template: dict[str, object] = {
        "metadata": {"annotations": {MODEL_VERSION: version, MOVE_ID: move_id}}
    }
    if target.model_source.type is ModelSourceType.VERSION:
        variable = target.model_source.env_var
        if any(one.get("valueFrom") for one in _variables(container, variable)):
            return Problem(
                ProblemKind.STALLED,
                Reason.FIELD_CONFLICT,
                f"Deployment {target.deployment.name} fills the variable {variable} of container "
                f"{container['name']} by valueFrom, which no value can stand beside: remove it "
                "from the Deployment's manifest, or name another modelSource.envVar.",
            )
        env = [{"name": variable, "value": f"models:/{model}/{version}"}]
        template["spec"] = {"containers": [{"name": container["name"], "env": env}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "spec": {"template": template},
    }


def conflict_policy(target: Target, conflicts: Sequence[OwnedField]) -> Problem | None:
    """None: apply again with force. A problem: somebody else's field, which stays theirs.

    Podium's annotations are forced (`kubectl rollout undo` takes them over; a manager that applies
    `annotations: {}` owns the empty map as one field), the env value only with `takeover: true`.
    """
    takes_env = target.model_source.type is ModelSourceType.VERSION and target.model_source.takeover
    env = f'.env[name="{target.model_source.env_var}"]'
    theirs = [
        one
        for one in conflicts
        if not one.field.startswith(f"{_ANNOTATIONS}podium.dev/")
        and f"{one.field}." != _ANNOTATIONS
        and not (takes_env and env in one.field)
    ]
    if not theirs:
        return None
    fields = "; ".join(f"{one.field} is owned by {one.manager}" for one in theirs)
    way_out = (
        f", or set takeover: true in modelSource of target {target.name}"
        if any(env in one.field for one in theirs)
        else ""
    )
    return Problem(
        ProblemKind.STALLED,
        Reason.FIELD_CONFLICT,
        f"Deployment {target.deployment.name}: {fields}. Remove the field from what that manager "
        f"applies{way_out}.",
    )


def autoscaled(autoscalers: Sequence[Raw], deployment_name: str) -> bool:
    """Whether one of the HorizontalPodAutoscalers scales this Deployment."""
    references = (mapping(one, "spec", "scaleTargetRef") for one in autoscalers)
    return any(
        one.get("kind") == "Deployment" and one.get("name") == deployment_name for one in references
    )


def _container(target: Target, deployment: Raw) -> Raw | Problem:
    """The container that serves: the one that the target names, else the only one."""
    containers = sequence(mapping(deployment, "spec", "template", "spec"), "containers")
    wanted = target.deployment.container
    if wanted is None and len(containers) == 1:
        return containers[0]
    named = [one for one in containers if one.get("name") == wanted]
    if named:
        return named[0]
    names = ", ".join(str(one.get("name")) for one in containers)
    asked = f"no container {wanted}" if wanted else "several containers"
    return Problem(
        ProblemKind.STALLED,
        Reason.CONTAINER_NOT_FOUND,
        f"Deployment {target.deployment.name} has {asked}: set deployment.container of target "
        f"{target.name} to one of: {names}.",
    )


def _variables(container: Raw, variable: str) -> list[Raw]:
    return [one for one in sequence(container, "env") if one.get("name") == variable]


def _env_value(target: Target, container: Raw) -> str | None:
    if target.model_source.type is not ModelSourceType.VERSION:
        return None
    # Of duplicates the last one counts, as in the container.
    values = [_text(one.get("value")) for one in _variables(container, target.model_source.env_var)]
    return values[-1] if values else None


def _template_digest(target: Target, deployment: Raw, container_name: str) -> str:
    """The digest of the pod template without what Podium owns there. A user's
    `kubectl rollout restart` is a change of theirs and stays in."""
    template = deepcopy(dict(mapping(deployment, "spec", "template")))
    metadata = dict(mapping(template, "metadata"))
    metadata.pop("creationTimestamp", None)
    annotations = dict(mapping(metadata, "annotations"))
    for own in (MODEL_VERSION, MOVE_ID):
        annotations.pop(own, None)
    metadata["annotations"] = annotations
    template["metadata"] = metadata
    if target.model_source.type is ModelSourceType.VERSION:
        pod = dict(mapping(template, "spec"))
        pod["containers"] = [
            _without_variable(one, target.model_source.env_var)
            if one.get("name") == container_name
            else one
            for one in sequence(pod, "containers")
        ]
        template["spec"] = pod
    return digest(template)


def _without_variable(container: Raw, variable: str) -> Raw:
    env = [one for one in sequence(container, "env") if one.get("name") != variable]
    return {**container, "env": env}


def _progress_deadline_exceeded(status: Raw) -> bool:
    return any(
        one.get("type") == "Progressing"
        and one.get("status") == "False"
        and one.get("reason") == "ProgressDeadlineExceeded"
        for one in sequence(status, "conditions")
    )


def _trouble(status: Raw) -> str | None:
    """Why the Deployment's controller makes no pods, in its own words: a quota, an admission
    policy. The ReplicaSet's Events say the same."""
    for one in sequence(status, "conditions"):
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return f"{one.get('reason')}: {one.get('message')}"
    return None


def _owns(deployment: str, pod: Raw) -> bool:
    """Whether the pod is of this Deployment's own ReplicaSets: selectors can overlap."""
    template_hash = mapping(pod, "metadata", "labels").get("pod-template-hash")
    return any(
        owner.get("controller") is True
        and owner.get("kind") == "ReplicaSet"
        and owner.get("name") == f"{deployment}-{template_hash}"
        for owner in sequence(mapping(pod, "metadata"), "ownerReferences")
    )


def _is_past(pod: Raw, move_id: str | None) -> bool:
    """Of another move, ended, and nobody deletes it. Kubernetes keeps a pod that was evicted,
    though its ReplicaSet has no replicas any more; it serves nobody."""
    metadata = mapping(pod, "metadata")
    ended = mapping(pod, "status").get("phase") in ("Failed", "Succeeded")
    stays = ended and not metadata.get("deletionTimestamp")
    return stays and mapping(metadata, "annotations").get(MOVE_ID) != move_id


def _number(source: Mapping[str, object], key: str, default: int = 0) -> int:
    value = source.get(key)
    return default if value is None else cast(int, value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
