"""What stands around the resource that is changed: a model with versions, Deployments, a
registry, a valid promotion; and an attempt that stays in the phase in which the change comes.

Gates that miss their metric, approvals nobody gives and pods that are not ready hold the attempt
there; `let_go_on` gives it what it waits for.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.faults.mutated import bases
from tests.faults.mutated.api import JSON_PATCH, MERGE_PATCH, Answer
from tests.faults.mutated.bases import Spec, filled
from tests.faults.mutated.changes import PLURALS, Moment
from tests.faults.mutated.slot import Slot
from tests.faults.world import State, World
from tests.integration.operator.conftest import Registry

API_VERSION = "podium.dev/v1alpha1"
ENDED = (None, "Promoted", "RolledBack", "Rejected", "Superseded", "Expired")
SETUP_SECONDS = 120.0
JUST_STARTED = 3.0  # seconds; times in status are whole ones
GOOD, BAD = 0.95, 0.5
_NUMBERS = itertools.count(1)


class SetupError(AssertionError):
    """The scene did not come to the moment in which the change is to be made."""


class Scene:
    """One case's world. `valid` is the promotion's valid spec, `settled` the version that is the
    champion once the valid promotion has had its way."""

    def __init__(self, slot: Slot, mlflow: str, moment: Moment, base: Spec) -> None:
        self.slot, self.moment, self.base = slot, moment, base
        self.played: list[str] = []
        self.number = next(_NUMBERS)
        self.world = World(slot.api, Registry(mlflow), slot.namespace)
        self.world.model = f"model {slot.namespace} {self.number}"
        self.valid: dict[str, Any] = dict(bases.promotion_at(moment, base))
        self.valid = filled(self.valid, self.words())
        resting = moment in (Moment.CREATED, Moment.AT_REST)
        self.settled = "3" if resting else "1" if moment is Moment.ROLLING_BACK else "2"
        self._approved: set[tuple[str, str]] = set()
        self._run_of_second = ""

    def words(self) -> dict[str, str]:
        """What the placeholders of `bases` mean here and now."""
        known = {bases.MODEL: self.world.model, bases.MLFLOW: self.world.registry.uri}
        if not hasattr(self, "settled"):
            return known
        promotion = self.promotion()
        attempt = promotion.get("status", {}).get("attempt", {})
        return {
            **known,
            bases.UID: promotion.get("metadata", {}).get("uid", "none"),
            bases.ATTEMPT: attempt.get("id", "none"),
            bases.EVIDENCE: attempt.get("evidenceDigest", "none"),
        }

    # Making it

    def make(self) -> None:
        """Everything but the promotion."""
        self.clear()
        self.world.registry.create(self.world.model)
        self._versions()
        self.secret()
        self.registry(filled(dict(bases.REGISTRY), self.words()))
        self.deployments()

    def bring_about(self) -> None:
        """The valid promotion, and an attempt in the phase of the moment. Raises SetupError."""
        if self.moment is Moment.CREATED:
            return
        first = "3" if self.moment is Moment.AT_REST else "1"
        self.promote(self.valid)
        self._until(f"version {first} is served", lambda p: self.serves(p, first))
        if self.moment is Moment.AT_REST:
            return
        self._second()
        if self.moment is Moment.PROMOTING:
            self._until_phase(Moment.VALIDATING)
            self.delete("deployments", "batch", "apps/v1")
            self._log_soak()
        if self.moment is Moment.ROLLING_BACK:
            self._until_phase(Moment.BAKING)
            time.sleep(JUST_STARTED)  # readiness that is lost at once is no loss yet
            self._spoil_pods("2")
        self._until_phase(self.moment)

    def _versions(self) -> None:
        """At rest four: good, bad, the champion, and a good one that nobody reviewed. In
        mid-attempt one, the champion."""
        model, registry = self.world.model, self.world.registry
        if self.moment in (Moment.CREATED, Moment.AT_REST):
            for number, accuracy in (("1", GOOD), ("2", BAD), ("3", GOOD)):
                registry.register(model, accuracy=accuracy)
                self._tag(number, "reviewed", "true")
            registry.register(model, accuracy=GOOD)
            registry.set_alias(model, "challenger", "3")
            self._champion("3")
        else:
            registry.register(model, accuracy=GOOD)
            self._tag("1", "reviewed", "true")
            self._champion("1")

    def _champion(self, version: str) -> None:
        """As if it had been the champion before Podium came."""
        model, registry = self.world.model, self.world.registry
        registry.set_alias(model, "champion", version)
        body = {"name": model, "version": version, "stage": "Production"}
        registry.call("POST", "model-versions/transition-stage", body)

    def _second(self) -> None:
        version = self.world.registry.register(self.world.model, accuracy=GOOD)
        found = self.world.registry.versions(self.world.model)[version]
        self._run_of_second = str(found["run_id"])
        self._tag(version, "reviewed", "true")

    def _tag(self, version: str, key: str, value: str) -> None:
        body = {"name": self.world.model, "version": version, "key": key, "value": value}
        self.world.registry.call("POST", "model-versions/set-tag", body)

    def deployments(self, **changes: Any) -> None:
        """Both Deployments as they should be; `changes` of the spec of `api`."""
        fault = {Moment.VERIFYING: "not-ready@2", Moment.ROLLING_BACK: "not-ready@1"}
        replicas = changes.pop("replicas", 2)
        self.deployment("api", replicas, fault.get(self.moment, ""), **changes)
        self.deployment("batch", 1)

    def deployment(self, name: str, replicas: int, fault: str = "", **changes: Any) -> None:
        labels = {"app": f"{name}-{self.number}"}
        annotations = {"podium.dev/kwok-fault": fault} if fault else {}
        template = {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"containers": [{"name": "server", "image": "serving"}]},
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        body = _object("apps/v1", "Deployment", name, {**spec, **changes})
        self.world.apply("deployments", body, "apps/v1")

    def secret(self) -> None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}}
        self.world.apply("secrets", {**body, "stringData": {"token": "s3cret-t0ken"}}, "v1")

    def registry(self, spec: Any, name: str = "mlflow") -> None:
        self.world.apply("modelregistries", _object(API_VERSION, "ModelRegistry", name, spec))

    # Hands

    def promote(self, spec: Any) -> None:
        """The promotion with that spec, made or changed. Raises AssertionError when refused."""
        answer = self.put("ModelPromotion", "p", spec)
        assert answer.ok, f"a valid promotion is refused: {answer.message}"

    def put(self, kind: str, name: str, spec: Any, *, dry: bool = False) -> Answer:
        """The object's spec replaced, or the object made with it, strictly as kubectl does."""
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        path = self.world.path(PLURALS[kind], name)
        if self.slot.api.send("GET", path).ok:
            patch = [{"op": "add", "path": "/spec", "value": spec}]
            return self.slot.api.send("PATCH", path + query, patch, JSON_PATCH)
        body = _object(API_VERSION, kind, name, spec)
        return self.slot.api.send("POST", self.world.path(PLURALS[kind]) + query, body)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self.slot.api.call("GET", self.world.path(PLURALS[kind], name)) or {}

    def delete(self, plural: str, name: str, group: str = API_VERSION) -> None:
        path = self.world.path(plural, name, group)
        self.slot.api.call("DELETE", path)
        end = time.monotonic() + SETUP_SECONDS
        while self.slot.api.call("GET", path) is not None:
            assert time.monotonic() < end, f"{plural} {name} is not deleted"
            time.sleep(0.1)

    def clear(self) -> None:
        """Nothing of the case before is left but pods on their way out."""
        groups = [(plural, API_VERSION) for plural in PLURALS.values()]
        groups += [("deployments", "apps/v1"), ("resourcequotas", "v1")]
        for plural, group in (*groups, ("horizontalpodautoscalers", "autoscaling/v2")):
            self.slot.api.call("DELETE", self.world.path(plural, group=group))
        path = self.world.path("modelpromotions")
        end = time.monotonic() + SETUP_SECONDS
        while self.slot.api.call("GET", path)["items"]:
            assert time.monotonic() < end, "a promotion is not deleted"
            time.sleep(0.1)

    def let_go_on(self) -> None:
        """Gives whatever an attempt may wait for: called again and again until all is well."""
        promotion = self.promotion()
        attempt = promotion.get("status", {}).get("attempt", {})
        if self._run_of_second:
            self._log_soak()
        if attempt.get("phase") == "AwaitingApproval":
            self._approve(attempt)
        for pod in self._pods():
            if (pod["metadata"].get("annotations") or {}).get("podium.dev/kwok-fault"):
                self._annotate(pod, "")

    def _approve(self, attempt: Mapping[str, Any]) -> None:
        asked = (str(attempt["id"]), str(attempt.get("evidenceDigest")))
        if asked in self._approved:
            return
        self._approved.add(asked)
        spec = {
            "promotionRef": {"name": "p"},
            "action": "Approve",
            "attemptID": asked[0],
            "evidenceDigest": asked[1],
            "decidedBy": "ann",
        }
        self.put("PromotionDecision", f"approve-{len(self._approved)}", spec)

    def _log_soak(self) -> None:
        body = {"run_id": self._run_of_second, "key": "soak", "value": 1, "timestamp": 1}
        self.world.registry.call("POST", "runs/log-metric", body)
        self._run_of_second = ""

    def _spoil_pods(self, version: str) -> None:
        for pod in self._pods():
            annotations = pod["metadata"].get("annotations") or {}
            if annotations.get("podium.dev/model-version") == version:
                self._annotate(pod, "not-ready")

    def _pods(self) -> list[dict[str, Any]]:
        found = self.slot.api.call("GET", self.world.path("pods", group="v1"))
        return list(found["items"])

    def _annotate(self, pod: Mapping[str, Any], fault: str) -> None:
        path = self.world.path("pods", pod["metadata"]["name"], "v1")
        body = {"metadata": {"annotations": {"podium.dev/kwok-fault": fault}}}
        self.slot.api.call("PATCH", path, body, MERGE_PATCH)

    # Eyes

    def promotion(self) -> dict[str, Any]:
        return self.get("ModelPromotion", "p")

    def state(self) -> State:
        return self.world.state()

    def metrics(self, version: str) -> dict[str, float]:
        """What is logged for a version, or will be."""
        if self.moment in (Moment.CREATED, Moment.AT_REST):
            return {"accuracy": BAD if version == "2" else GOOD}
        return {"accuracy": GOOD, **({"soak": 1.0} if version == "2" else {})}

    def serves(self, promotion: Mapping[str, Any], version: str) -> bool:
        status = promotion.get("status", {})
        return (
            is_true(promotion, "Ready")
            and caught_up(promotion)
            and status.get("attempt", {}).get("phase") in ENDED
            and status.get("champion", {}).get("version") == version
        )

    def _until_phase(self, moment: Moment) -> None:
        def there(promotion: Mapping[str, Any]) -> bool:
            attempt = promotion.get("status", {}).get("attempt", {})
            return (attempt.get("version"), attempt.get("phase")) == ("2", moment.value)

        self._until(f"version 2 is {moment.value}", there)

    def _until(self, what: str, true: Callable[[Mapping[str, Any]], bool]) -> None:
        end = time.monotonic() + SETUP_SECONDS
        while not true(promotion := self.promotion()):
            if time.monotonic() > end:
                raise SetupError(f"not within {SETUP_SECONDS:.0f} s: {what}; {describe(promotion)}")
            assert self.slot.alive, f"the operator ended by itself:\n{self.slot.log()}"
            time.sleep(0.15)


def condition(resource: Mapping[str, Any], kind: str) -> dict[str, Any]:
    found = resource.get("status", {}).get("conditions", [])
    return next((dict(each) for each in found if each["type"] == kind), {})


def is_true(resource: Mapping[str, Any], kind: str) -> bool:
    return condition(resource, kind).get("status") == "True"


def caught_up(resource: Mapping[str, Any]) -> bool:
    """Whether status speaks of the newest generation, in each of its conditions too."""
    status, generation = resource.get("status", {}), resource["metadata"]["generation"]
    spoken = [each.get("observedGeneration") for each in status.get("conditions", [])]
    return status.get("observedGeneration") == generation and set(spoken) == {generation}


def describe(resource: Mapping[str, Any]) -> str:
    """Status in a line."""
    status = resource.get("status", {})
    attempt = status.get("attempt", {})
    told = [
        f"{c['type']}={c['status']}/{c['reason']} ({c['message']})"
        for c in status.get("conditions", [])
    ]
    generation = resource.get("metadata", {}).get("generation")
    return (
        f"generation {generation}, observed {status.get('observedGeneration')}; champion "
        f"{status.get('champion', {}).get('version')}; attempt {attempt.get('version')} "
        f"{attempt.get('phase')}; {'; '.join(told) or 'no conditions'}"
    )


def _object(api: str, kind: str, name: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}
