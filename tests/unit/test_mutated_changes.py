"""What `make mutations` does without a server: the changes it finds, and its second opinion."""

import re
from collections import Counter

import pytest

from tests.faults.mutated import bases, cases, oracle
from tests.faults.mutated.api import Answer
from tests.faults.mutated.changes import PLURALS, Moment, changes_of, fields_of, schema_of
from tests.faults.mutated.slot import Counts

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
