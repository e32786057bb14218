"""What `make mutations` does without a server: the changes it finds, and its second opinion."""

import re
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults.mutated import bases, cases, oracle
from tests.faults.mutated.api import Answer
from tests.faults.mutated.changes import PLURALS, Moment, changes_of, fields_of, schema_of
from tests.faults.mutated.scene import Scene
from tests.faults.mutated.slot import Counts
from tests.faults.world import State

VALID = {
    "ModelPromotion": list(bases.PROMOTIONS.values()),
    "ModelRegistry": [bases.REGISTRY],
    "PromotionDecision": [bases.decision(action) for action in bases.DECISIONS],
}


def unnumbered(field: str) -> str:
    return re.sub(r"\[\d+\]", "[0]", field)


@pytest.mark.parametrize("kind", PLURALS)
def test_every_field_of_the_crd_is_changed(kind: str) -> None:
    changed = {unnumbered(c.field) for valid in VALID[kind] for c in changes_of(kind, valid)}
    missing = set(fields_of(schema_of(kind))) - changed
    assert not missing


def test_a_change_changes_something_and_none_is_made_twice() -> None:
    drawn = [case.change for case in cases.chosen(300, seed=1) if case.change]
    assert not [str(change) for change in drawn if change.changes_nothing]
    changes = [(c.field, c.what) for c in changes_of("ModelPromotion", bases.FULL)]
    assert len(set(changes)) == len(changes) > 1000


def test_changes_of_the_kinds_that_are_wanted() -> None:
    said = {c.what.partition(":")[0] for c in changes_of("ModelPromotion", bases.FULL)}
    wanted = {"removed", "added", "empty", "another type", "an unknown field", "past the maximum"}
    wanted |= {"outside the enum", "an item added", "the last item doubled", "in the other order"}
    assert wanted <= said


def test_the_same_seed_gives_the_same_cases_and_every_moment() -> None:
    first = [case.name for case in cases.chosen(300, seed=1)]
    assert first == [case.name for case in cases.chosen(300, seed=1)]
    assert first != [case.name for case in cases.chosen(300, seed=2)]
    assert len(set(first)) == 300 + 150
    moments = Counter(name.partition("/")[0] for name in first)
    assert set(moments) == {moment.value for moment in Moment}
    assert min(moments.values()) >= 10
    kinds = Counter(case.kind for case in cases.chosen(300, seed=1))
    assert set(kinds) == {*PLURALS, "World"}
    assert min(kinds.values()) >= 10


def refusal(field: str, message: str) -> Answer:
    causes = [{"field": field, "message": message}]
    return Answer(422, {"message": "invalid", "details": {"causes": causes}})


def test_a_refusal_that_helps_names_the_field_and_says_something() -> None:
    field = "spec.gates[0].metric.key"
    helps = refusal("spec.gates[0].metric.key", "Too long: may not be more than 250 bytes")
    assert oracle.unclear_refusal(helps, field) is None
    assert oracle.unclear_refusal(refusal("spec.gates[0].metric.key", ""), field)
    assert oracle.unclear_refusal(refusal("spec.suspend", "must be of type boolean"), field)
    assert oracle.unclear_refusal(Answer(500, {"message": "no idea"}), field)
    unknown = Answer(400, {"message": 'strict decoding error: unknown field "spec.typo"'})
    assert oracle.unclear_refusal(unknown, "spec.typo") is None
    assert oracle.unclear_refusal(unknown, "spec.model")


def test_metrics_are_summed_over_their_labels() -> None:
    page = (
        'podium_kubernetes_request_seconds_count{verb="get"} 3.0\n'
        'podium_kubernetes_request_seconds_count{verb="list"} 4.0\n'
        "podium_reconcile_seconds_count 12.0\npodium_reconcile_errors_total 0.0\n"
    )
    assert Counts.of(page) == Counts(passes=12, unexpected=0, kubernetes=7, registry=0)


GATE = {"name": "accuracy", "metric": {"key": "accuracy", "bound": {"min": "0.9"}}}
SPEC = {
    "candidate": {"latest": {}},
    "gates": [GATE],
    "targets": [{"deployment": {"name": "api"}, "modelSource": {"type": "Version"}}],
}
SCENE = cast(
    Scene,
    SimpleNamespace(
        world=SimpleNamespace(model="churn"),
        metrics=lambda version: {"accuracy": 0.5 if version == "2" else 0.95},
    ),
)


def state(
    ready: str = "True", champion: str = "3", target: str = "3", alias: str = "3", **other: str
) -> State:
    """Three versions, of which 2 is bad and 3 the champion."""
    phase, variable = other.get("phase", "Promoted"), other.get("variable", target)
    entry = {"seq": 1, "alias": "champion", "action": "PromoteIntent", "to": other.get("to", "3")}
    status = {
        "champion": {"version": champion},
        "attempt": {"phase": phase},
        "history": [entry],
        "conditions": [
            {"type": "Ready", "status": ready, "reason": "ChampionServed"},
            {"type": "Stalled", "status": "False", "reason": other.get("stalled", "UpToDate")},
        ],
    }
    container = {"name": "s", "env": [{"name": "MODEL_URI", "value": f"models:/churn/{variable}"}]}
    template = {
        "metadata": {"annotations": {"podium.dev/model-version": target}},
        "spec": {"containers": [container]},
    }
    version: dict[str, Any] = {"status": "READY", "current_stage": "None"}
    return State(
        promotion={"spec": SPEC, "status": status},
        deployments={other.get("deployment", "api"): {"spec": {"template": template}}},
        pods=(),
        model={"aliases": [{"alias": "champion", "version": alias}]},
        versions=dict.fromkeys("123", version),
    )


@pytest.mark.parametrize(
    "fine",
    [
        state(),
        state(ready="False", champion="1", alias="1", target="1"),  # 3 is on its way
        state(ready="False", champion="1", target="3"),  # that one may be chosen
        state(ready="False", phase="Promoting", target="2"),  # not at rest: see `_forbidden_moves`
        state(champion="1", alias="1", target="1", stalled="CandidateBlocked"),
    ],
)
def test_what_agrees(fine: State) -> None:
    assert not oracle.disagreements(SCENE, fine, [SPEC])


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (state(alias="1"), "the alias is at 1"),
        (state(target="1"), "Deployment api says version 1"),
        (state(variable="1"), "MODEL_URI of api is"),
        (state(deployment="other"), "there is no Deployment api"),
        (state(champion="1", alias="1", target="1"), "the spec chooses 3, 1 is served"),
        (state(to="2"), "I1: ledger entry 1 promotes 2"),
        (state(ready="False", target="2"), "Deployment api was left at version 2"),
    ],
)
def test_what_does_not_agree_is_said(bad: State, says: str) -> None:
    assert any(says in said for said in oracle.disagreements(SCENE, bad, [SPEC]))
