"""Changes that no schema suggests: other references, other policies, things that go missing.

Each says which reason somebody must be told, where the docs leave no choice.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tests.faults.mutated import bases
from tests.faults.mutated.api import JSON_PATCH, MERGE_PATCH, Answer
from tests.faults.mutated.bases import API, BATCH, Spec, filled
from tests.faults.mutated.changes import Change, Edit, Moment
from tests.faults.mutated.scene import Scene
from tests.faults.mutated.trial import Case, of_change

CLOSED = "http://127.0.0.1:9"
_VERSION = {"type": "Version"}


def _without(spec: Spec, *names: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in names}


def _metric(**metric: Any) -> dict[str, Any]:
    return {"gates": [{"name": "other", "metric": {"key": "accuracy", **metric}}]}


def _targets(*targets: Mapping[str, Any]) -> dict[str, Any]:
    return {"targets": list(targets)}


def _target(name: str, deployment: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "deployment": dict(deployment), **more}


_CANDIDATES: Mapping[str, Any] = {
    "pinned to an older version": {"version": "1"},
    "pinned to another version": {"version": "2"},
    "pinned to a version that is not there": {"version": "9999"},
    "what an alias points at": {"alias": "challenger"},
    "what an alias points at that is not there": {"alias": "nobody"},
    "what is in Staging": {"stage": "Staging"},
    "what is in Production": {"stage": "Production"},
    "the newest, reviewed or not": {"latest": {}},
    "the newest with tags that none has": {"latest": {"matchTags": {"reviewed": "never"}}},
}
_OTHERS: Mapping[str, tuple[dict[str, Any], str]] = {
    "suspended": ({"suspend": True}, ""),
    "a bound that none meets": (_metric(bound={"min": "2"}), ""),
    "a metric that nobody logs": ({"gates": [bases.SOAK | {"deadline": "1s"}]}, ""),
    "less is better": (_metric(compare={"goal": "Minimize"}), ""),
    "a LoggedModel's metric": (_metric(source="LoggedModel", bound={"min": "0"}), ""),
    "a gate that only reports": ({"gates": [bases.SOAK | {"dryRun": True}]}, ""),
    "an age of three days": ({"gates": [{"name": "aged", "minAge": {"duration": "3d"}}]}, ""),
    "one person must approve": ({"approval": {"required": 1, "excludeAuthors": False}}, ""),
    "ten people must approve, at once": ({"approval": {"required": 10, "expireAfter": "1s"}}, ""),
    "a Deployment that is not there": (_targets(_target("api", {"name": "none"})), ""),
    "a container that is not there": (
        _targets(_target("api", {"name": "api", "container": "sidecar"})),
        "ContainerNotFound",
    ),
    "the two Deployments change places": (
        _targets(_target("api", {"name": "batch"}), _target("batch", {"name": "api"})),
        "",
    ),
    "both targets by version": (_targets(API | {"modelSource": _VERSION}, BATCH), ""),
    "both targets by alias": (_targets(API, _without(BATCH, "modelSource")), ""),
    "another variable": (
        _targets(API, BATCH | {"modelSource": _VERSION | {"envVar": "OTHER"}}),
        "",
    ),
    "the variable is taken over": (
        _targets(API, BATCH | {"modelSource": _VERSION | {"takeover": True}}),
        "",
    ),
    "the targets have other names": (_targets(API | {"name": "one"}, BATCH | {"name": "two"}), ""),
    "one target less": (_targets(BATCH), ""),
    "no target": (_targets(), ""),
    "no time to become ready": ({"rollout": {"progressDeadline": "1ms"}}, ""),
    "no automatic rollback": ({"rollback": {"automatic": False}}, ""),
    "a short bake": ({"rollback": {"bakeDuration": "5s"}}, ""),
    "stage None": ({"stage": "None"}, ""),
    "stage Staging": ({"stage": "Staging"}, ""),
    "drift is followed": ({"aliasDriftPolicy": "Adopt"}, ""),
    "drift holds": ({"aliasDriftPolicy": "Hold"}, ""),
    "every newer version supersedes": ({"supersede": "Always"}, ""),
    "a short history": ({"historyLimit": 1}, ""),
}
_AT_CREATION: Mapping[str, tuple[dict[str, Any], str]] = {
    "a registry that is not there": ({"registryRef": {"name": "none"}}, "RegistryNotFound"),
    "a registry for other models": ({"registryRef": {"name": "other"}}, "ModelNotAllowed"),
    "a registry that does not answer": ({"registryRef": {"name": "away"}}, "RegistryUnavailable"),
    "a model that is not there": ({"model": "nothing"}, "ModelNotFound"),
    "an alias that is not there": ({"alias": "live"}, ""),
    "an alias that is not there, and no candidate": (
        {"alias": "live", "candidate": None},
        "NoChampion",
    ),
}


def of_specs(moment: Moment) -> Iterator[Case]:
    """What a person might write into the promotion instead."""
    before = bases.promotion_at(moment)
    for words, candidate in _CANDIDATES.items():
        yield _spec(moment, before, "candidate", words, {**before, "candidate": candidate})
    yield _spec(moment, before, "candidate", "whoever moves it", _without(before, "candidate"))
    for words, (other, told) in _OTHERS.items():
        yield _spec(moment, before, next(iter(other)), words, {**before, **other}, told)
    if moment is Moment.CREATED:
        for words, (other, told) in _AT_CREATION.items():
            spec = {name: each for name, each in {**before, **other}.items() if each is not None}
            case = _spec(moment, before, next(iter(other)), words, spec, told)
            yield replace(case, act=_with_other_registries(case.act))


def _to(spec: Any) -> Edit:
    def edit(holder: dict[str, Any]) -> None:
        holder["spec"] = spec

    return edit


def _with_other_registries(
    act: Callable[[Scene], Answer | None],
) -> Callable[[Scene], Answer | None]:
    def first(scene: Scene) -> Answer | None:
        uri = scene.world.registry.uri
        scene.registry({"trackingURI": uri, "modelPatterns": ["churn*"]}, "other")
        scene.registry({"trackingURI": CLOSED}, "away")
        return act(scene)

    return first


def _spec(moment: Moment, before: Spec, name: str, words: str, spec: Any, told: str = "") -> Case:
    change = Change("ModelPromotion", f"spec.{name}", words, before, _to(spec))
    return of_change(change, moment, expect=frozenset({told} if told else ()))


def of_world(moment: Moment) -> Iterator[Case]:
    """What a person might do to the things that a promotion stands on."""
    for words, (act, expect) in _DEEDS.items():
        yield Case(
            name=f"{moment.value}/somebody {words}",
            kind="World",
            moment=moment,
            act=_silent(act),
            undo=_put_back,
            expect=frozenset(expect.split()),
        )


def of_registry(moment: Moment) -> Iterator[Case]:
    """The ModelRegistry points elsewhere."""
    for words, (other, expect) in _REGISTRIES.items():
        edit = _to({**bases.REGISTRY, **other})
        change = Change("ModelRegistry", "spec", words, bases.REGISTRY, edit)
        yield of_change(change, moment, expect=frozenset(expect.split()))


def of_decisions(moment: Moment) -> Iterator[Case]:
    """A person's word about something else than what is there."""
    for action, said in _DECISIONS:
        if bases.moment_of(action) is not moment:
            continue
        before = bases.decision(action)
        spec = {name: each for name, each in {**before, **said}.items() if each is not None}
        words = f"{action}, with {said}"
        yield of_change(Change("PromotionDecision", "spec", words, before, _to(spec)), moment)


_NOBODYS = {"decidedBy": None}
_OTHER_UID = {"promotionRef": {"name": "p", "uid": "00000000-0000-4000-8000-000000000000"}}
_OTHER_PROMOTION = {"promotionRef": {"name": "nobody"}}
_NO_UID = {"promotionRef": {"name": "p"}}
_NOT_THERE = {"version": "9999"}
_DECISIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(("Approve", each) for each in (_NOBODYS, _OTHER_UID, _OTHER_PROMOTION, _NO_UID, _NOT_THERE)),
    ("Approve", {"attemptID": "2-ffffff"}),
    ("Approve", {"evidenceDigest": "sha256:" + 64 * "0"}),
    ("Reject", {"attemptID": "2-ffffff"}),
    ("Reject", {"attemptID": None, "version": "1"}),
    *(("Rollback", each) for each in (_NOBODYS, _OTHER_UID, _NOT_THERE, {"version": None})),
    ("Rollback", {"version": "2"}),
    ("Rollback", {"version": "3"}),
    ("Hold", _OTHER_PROMOTION),
    ("Hold", {"reason": "日" * 1024}),
    ("Release", _NOT_THERE),
    ("Release", {"version": None}),
    ("Retry", _NOT_THERE),
)


_REGISTRIES: Mapping[str, tuple[dict[str, Any], str]] = {
    "a server that does not answer": ({"trackingURI": CLOSED}, "RegistryUnavailable"),
    "a path that is not MLflow's": ({"trackingURI": f"{bases.MLFLOW}/nowhere"}, ""),
    "a name that resolves to nothing": (
        {"trackingURI": "http://nowhere.invalid"},
        "RegistryUnavailable",
    ),
    "a Secret that is not there": ({"credentialsSecretRef": {"name": "none"}}, "SecretNotFound"),
    "other models only": ({"modelPatterns": ["churn*"]}, "ModelNotAllowed"),
    "a workspace": ({"workspace": "team-a"}, ""),
    "a poll each hour": ({"pollInterval": "1h"}, ""),
}


def _silent(act: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """A deed is no request whose answer is looked at."""

    def deed(scene: Scene) -> None:
        act(scene)

    return deed


def _put_back(scene: Scene) -> None:
    api, path = scene.slot.api, scene.world.path
    api.call("DELETE", path("horizontalpodautoscalers", group="autoscaling/v2"))
    api.call("DELETE", path("resourcequotas", group="v1"))
    for rival in ("q", "copy"):
        if scene.get("ModelPromotion", rival):
            scene.delete("modelpromotions", rival)
    if scene.promotion().get("metadata", {}).get("deletionTimestamp"):
        body = {"metadata": {"finalizers": None}}
        api.call("PATCH", path("modelpromotions", "p"), body, MERGE_PATCH)
    scene.secret()
    scene.registry(filled(dict(bases.REGISTRY), scene.words()))


def _renamed(scene: Scene) -> None:
    scene.delete("deployments", "api", "apps/v1")
    labels = {"app": f"api-{scene.number}"}
    pod = {"containers": [{"name": "web", "image": "serving"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    scene.deployment("api", 2, template=template)


def _another_template(scene: Scene) -> None:
    path = scene.world.path("deployments", "api", "apps/v1")
    pod = {"template": {"metadata": {"annotations": {"team": "other"}}}}
    scene.slot.api.call("PATCH", path, {"spec": pod}, MERGE_PATCH)


def _recreate(scene: Scene) -> None:
    path = scene.world.path("deployments", "api", "apps/v1")
    body = {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}
    scene.slot.api.call("PATCH", path, body, MERGE_PATCH)


def _quota(scene: Scene) -> None:
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    scene.world.apply("resourcequotas", {**body, "spec": {"hard": {"pods": "0"}}}, "v1")


def _autoscaler(scene: Scene) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    spec = {"minReplicas": 2, "maxReplicas": 3, "scaleTargetRef": reference}
    kind = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    body = {**kind, "metadata": {"name": "api"}, "spec": spec}
    scene.world.apply("horizontalpodautoscalers", body, "autoscaling/v2")


def _rival(name: str, **other: Any) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        answer = scene.put("ModelPromotion", name, {**scene.valid, **other})
        assert answer.ok, answer.message

    return act


def _status_emptied(scene: Scene) -> None:
    path = scene.world.path("modelpromotions", "p") + "/status"
    patch = [{"op": "replace", "path": "/status", "value": {}}]
    scene.slot.api.call("PATCH", path, patch, JSON_PATCH)


def _deleting(scene: Scene) -> None:
    """Deleted, and a finalizer of somebody else's keeps it there."""
    path = scene.world.path("modelpromotions", "p")
    body = {"metadata": {"finalizers": ["example.com/backup"]}}
    scene.slot.api.call("PATCH", path, body, MERGE_PATCH)
    scene.slot.api.call("DELETE", path)


def _labelled(scene: Scene) -> None:
    body = {"metadata": {"labels": {"team": "a"}, "annotations": {"podium.dev/odd": "\u0001"}}}
    scene.slot.api.call("PATCH", scene.world.path("modelpromotions", "p"), body, MERGE_PATCH)


_DEEDS: Mapping[str, tuple[Callable[[Scene], None], str]] = {
    "deletes the ModelRegistry": (
        lambda scene: scene.delete("modelregistries", "mlflow"),
        "RegistryNotFound",
    ),
    "deletes the Secret": (lambda scene: scene.delete("secrets", "login", "v1"), ""),
    "deletes a Deployment": (
        lambda scene: scene.delete("deployments", "api", "apps/v1"),
        "TargetNotFound",
    ),
    "makes the Deployment anew with another container": (_renamed, "ContainerNotFound"),
    "pauses a Deployment": (lambda scene: scene.deployments(paused=True), ""),
    "scales a Deployment to nothing": (lambda scene: scene.deployments(replicas=0), ""),
    "sets strategy Recreate": (_recreate, ""),
    "changes the pod template": (_another_template, ""),
    "allows no more pods": (_quota, ""),
    "adds an autoscaler": (_autoscaler, ""),
    "adds a promotion of the same alias": (_rival("copy"), ""),
    "adds a promotion of the same Deployments": (_rival("q", alias="live", stage="None"), ""),
    "empties the promotion's status": (_status_emptied, ""),
    "deletes the promotion": (lambda scene: scene.delete("modelpromotions", "p"), ""),
    "deletes the promotion, which a finalizer keeps": (_deleting, ""),
    "labels the promotion": (_labelled, ""),
}
