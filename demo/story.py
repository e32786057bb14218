"""The acts of the demo, and what must hold after each.

Four versions are registered one after the other; Podium is only watched. The last act is a
person's word, a PromotionDecision.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from demo.asker import Asker
from demo.models import ALIAS, BOUND, MODEL, Answers, Laboratory, Trained
from demo.stage import NAMESPACE, Manifest, Stage, together
from demo.timeline import ClaimError, Timeline

_FRESH = 12  # predictions after each act, each on its own connection


@dataclass(frozen=True)
class Sight:
    """What one look at the promotion and at MLflow's alias saw."""

    status: Mapping[str, Any]
    alias: str | None

    @property
    def attempt(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.status.get("attempt") or {}
        return found

    @property
    def phase(self) -> tuple[str, str]:
        return str(self.attempt.get("version", "")), str(self.attempt.get("phase", ""))

    def condition(self, name: str) -> Mapping[str, Any]:
        for each in self.status.get("conditions", ()):
            if each["type"] == name:
                found: Mapping[str, Any] = each
                return found
        return {}

    @property
    def ready(self) -> bool:
        return self.condition("Ready").get("status") == "True"


@dataclass
class Story:
    stage: Stage
    laboratory: Laboratory
    timeline: Timeline
    trained: dict[str, Trained] = field(default_factory=dict)
    offline: dict[str, Answers] = field(default_factory=dict)
    last: Sight | None = None
    aliases: list[str | None] = field(default_factory=list)

    def tell(self) -> None:
        """All acts; raises ClaimError at the first claim that does not hold."""
        self._first_champion()
        self._a_better_one()
        self._refused()
        self._rolled_back()
        self._a_persons_word()

    def _first_champion(self) -> None:
        self.timeline.act("version 1 is the first champion")
        self._train("1")
        self.stage.start_serving()
        self.timeline.tell("applied examples/iris: registry, promotion, Deployment, Service")
        self._follow("Promoted", "1", within=180)
        self._claim_champion("1", {"1": "Production"})

    def _a_better_one(self) -> None:
        self.timeline.act("version 2 is better, and takes its place")
        with self._asking() as asker:
            self._train("2")
            self._follow("Promoted", "2", within=180)
        self._claim_no_gap(asker)
        self._claim_champion("2", {"2": "Production", "1": "Archived"})

    def _refused(self) -> None:
        self.timeline.act(f"version 3 fails its gate (accuracy at least {BOUND})")
        moves = len(self.aliases)
        self._train("3")
        sight = self._follow("Rejected", "3", within=60)
        self.timeline.tell(f"Podium says: {sight.attempt.get('message', '')}")
        self.timeline.claim(len(self.aliases) == moves, f"{ALIAS} never moved to version 3")
        self._claim_champion("2", {"2": "Production", "1": "Archived", "3": "None"})

    def _rolled_back(self) -> None:
        self.timeline.act("version 4 passes its gate, but its server never becomes ready")
        with self._asking() as asker:
            self._train("4")
            sight = self._follow("RolledBack", "4", within=240)
        self.timeline.tell(f"Podium says: {sight.attempt.get('message', '')}")
        self.timeline.claim("4" in self.aliases, f"{ALIAS} did point at version 4 meanwhile")
        quarantined = [each["version"] for each in sight.status.get("quarantined", ())]
        self.timeline.claim(quarantined == ["4"], "version 4 is in quarantine", str(quarantined))
        if self.stage.serves:
            self.timeline.claim("4" not in asker.answered, "version 4 never answered anybody")
        self._claim_no_gap(asker)
        self._claim_champion("2", {"2": "Production", "1": "Archived", "4": "Archived"})

    def _a_persons_word(self) -> None:
        self.timeline.act("a person says Rollback: back to the last Archived Production version")
        with self._asking() as asker:
            name = self._decide()
            sight = self._follow("RolledBack", "2", within=180)
        outcome = self._get("promotiondecision", name).get("status", {})
        self.timeline.claim(
            outcome.get("outcome") == "Applied", f"decision {name} was applied", str(outcome)
        )
        self.timeline.claim("hold" in sight.status, "no new candidate is taken until a Release")
        self._claim_no_gap(asker)
        self._claim_champion("1", {"1": "Production", "2": "Archived"})

    def _train(self, number: str) -> None:
        made = self.laboratory.train(number)
        self.timeline.claim(made.version == number, f"registered version {number}", made.version)
        self.trained[number] = made
        self.offline[number] = made.offline
        self.timeline.tell(
            f"version {number}: {made.summary}, accuracy {made.accuracy:.3f}; "
            f"its own artifact answers {_short(made.offline)}"
        )
        alike = [v for v, other in self.trained.items() if other.offline == made.offline]
        self.timeline.claim(
            alike == [number], f"version {number} answers differently from the others", str(alike)
        )

    def _asking(self) -> Asker:
        return Asker(self.stage, self.laboratory.rows(), self.offline)

    def _follow(self, phase: str, version: str, within: float) -> Sight:
        """Tell what happens until the attempt for `version` has come to `phase`, targets ready."""
        deadline = time.monotonic() + within
        with self.timeline.waiting(f"until version {version} is {phase}"):
            while True:
                sight = self.last = self._look(self.last)
                if sight.phase == (version, phase) and sight.ready:
                    return sight
                ended = sight.phase[0] == version and sight.phase[1] in _ENDS
                if ended and sight.phase[1] != phase:
                    message = sight.attempt.get("message", "")
                    raise ClaimError(f"Version {version} is {sight.phase[1]}: {message}")
                if time.monotonic() > deadline:
                    raise ClaimError(
                        f"Version {version} is not {phase} and served after {within:.0f} s."
                    )
                time.sleep(1)

    def _look(self, before: Sight | None) -> Sight:
        status = self._get("modelpromotion", "iris").get("status", {})
        sight = Sight(status, self.laboratory.champion())
        if not self.aliases or self.aliases[-1] != sight.alias:
            was = self.aliases[-1] if self.aliases else None
            self.aliases.append(sight.alias)
            if sight.alias is not None:
                start = f"from version {was} " if was else ""
                self.timeline.tell(f"{ALIAS} moves {start}to version {sight.alias} in MLflow")
        if sight.phase[1] and (before is None or before.phase != sight.phase):
            self.timeline.tell(f"version {sight.phase[0]}: {sight.phase[1]}")
        stalled = sight.condition("Stalled")
        if stalled.get("status") == "True" and (
            before is None or before.condition("Stalled") != stalled
        ):
            self.timeline.tell(f"Stalled, {stalled.get('reason')}: {stalled.get('message')}")
        ready = sight.condition("Ready")
        self.timeline.progress(f"{' '.join(sight.phase)}: {ready.get('message', '')}")
        return sight

    def _claim_champion(self, version: str, stages: Mapping[str, str]) -> None:
        """Alias, stages, Deployment and predictions all say that `version` is the champion."""
        alias = self.laboratory.champion()
        self.timeline.claim(
            alias == version, f"in MLflow {ALIAS} is version {version}", f"It is {alias}."
        )
        found = self.laboratory.stages()
        wanted = ", ".join(f"version {v} {stage}" for v, stage in stages.items())
        agree = all(found.get(v) == stage for v, stage in stages.items())
        alone = [v for v, stage in found.items() if stage == "Production"] == [version]
        self.timeline.claim(agree and alone, f"stages in MLflow: {wanted}", str(found))
        deployment = self._get("deployment", "iris")
        annotations = deployment["spec"]["template"]["metadata"].get("annotations", {})
        self.timeline.claim(
            annotations.get("podium.dev/model-version") == version
            and deployment["status"].get("readyReplicas", 0) >= deployment["spec"]["replicas"],
            f"Deployment iris is ready with version {version}",
            str(annotations),
        )
        if self.stage.serves:
            self._claim_predictions(version)

    def _claim_predictions(self, version: str) -> None:
        offline = self.offline[version]
        rows = self.laboratory.rows()
        answers = together([rows] * _FRESH, self.stage)
        others = sorted({_short(each) for each in answers if each != offline})
        self.timeline.claim(
            not others,
            f"{_FRESH} predictions, each on a fresh connection, are what version {version}'s "
            f"artifact answers offline: {_short(offline)}",
            f"Others came: {others}",
        )

    def _claim_no_gap(self, asker: Asker) -> None:
        if not self.stage.serves:
            return
        self.timeline.claim(
            asker.asked > 0 and not asker.failures,
            f"{asker.asked} predictions meanwhile, none failed ({asker.tally})",
            "; ".join(asker.failures[:3]),
        )

    def _decide(self) -> str:
        decision: Manifest = {
            "apiVersion": "podium.dev/v1alpha1",
            "kind": "PromotionDecision",
            "metadata": {"name": "back-to-the-last-good-one", "namespace": NAMESPACE},
            "spec": {
                "promotionRef": {"name": "iris"},
                "action": "Rollback",
                "decidedBy": "ann@example.com",
                "reason": "Florists complain about version 2",
            },
        }
        self.stage.cluster.apply(decision)
        spec = decision["spec"]
        self.timeline.tell(f"{spec['decidedBy']}: {spec['action']}. {spec['reason']}")
        return str(decision["metadata"]["name"])

    def _get(self, kind: str, name: str) -> Manifest:
        text = self.stage.cluster.kubectl(
            "get", kind, name, f"--namespace={NAMESPACE}", "-o", "json"
        )
        found: Manifest = json.loads(text)
        return found


_ENDS = {"Promoted", "Rejected", "Expired", "Superseded", "RolledBack"}
_LETTERS: Callable[[str], str] = {"setosa": "s", "versicolor": "e", "virginica": "i"}.__getitem__


def _short(answers: tuple[str, ...]) -> str:
    """One letter a flower: s(etosa), v(e)rsicolor, v(i)rginica."""
    return "".join(_LETTERS(each) for each in answers)


def closing(story: Story, kubeconfig: str) -> None:
    """What the promotion looks like now, and where to look next."""
    where = f"--namespace={NAMESPACE}"
    cluster, timeline = story.stage.cluster, story.timeline
    timeline.show(f"kubectl get mp {where}", cluster.kubectl("get", "mp", where))
    timeline.show(
        f"kubectl describe mp iris {where}", cluster.kubectl("describe", "mp", "iris", where)
    )
    timeline.plain(
        "\nWhere to look next\n"
        f"  export KUBECONFIG={kubeconfig}\n"
        f"  {cluster.programs['kubectl']} get mp -A\n"
        f"  MLflow: {story.stage.mlflow_uri}/#/models/{MODEL}\n"
        "  make demo-down removes all of it"
    )
