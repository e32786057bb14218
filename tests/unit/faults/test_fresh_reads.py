"""Rule 3 in the random schedules: what counts as a read for a write, and what does not."""

import pytest

from podium.engine import ledger
from tests.faults import calls
from tests.faults.calls import Asked
from tests.faults.schedules.checks import FreshReads

ONE: dict[str, str] = {}
TWO = {"staging": "staging"}  # the second promotion, its Deployment and its alias
MLFLOW = "/api/2.0/mlflow/"


def kubernetes(method: str, path: str, body: str = "{}") -> Asked:
    asked = calls.kubernetes(method, path, {}, body.encode())
    assert asked is not None
    return asked


def mlflow(what: str, body: str) -> Asked:
    asked = calls.mlflow("POST", MLFLOW + what, {}, body.encode())
    assert asked is not None
    return asked


def read(name: str = "p") -> Asked:
    return kubernetes("GET", f"/apis/podium.dev/v1alpha1/namespaces/n/modelpromotions/{name}")


def status(name: str = "p") -> Asked:
    path = f"/apis/podium.dev/v1alpha1/namespaces/n/modelpromotions/{name}/status"
    return kubernetes("PUT", path)


def target(name: str = "api") -> Asked:
    return kubernetes("PATCH", f"/apis/apps/v1/namespaces/n/deployments/{name}")


def alias(name: str = "champion") -> Asked:
    return mlflow("registered-models/alias", f'{{"alias": "{name}", "version": "2"}}')


def model_tag(key: str) -> Asked:
    return mlflow("registered-models/set-tag", f'{{"key": "{key}", "value": "x"}}')


def version_tag(key: str) -> Asked:
    return mlflow("model-versions/set-tag", f'{{"key": "{key}", "version": "2"}}')


STAGE = mlflow("model-versions/transition-stage", '{"version": "2", "stage": "Staging"}')
REGISTRY = kubernetes("PUT", "/apis/podium.dev/v1alpha1/namespaces/n/modelregistries/mlflow/status")
EVENT = kubernetes("POST", "/api/v1/namespaces/n/events")


def last_is_fresh(loads: dict[str, str], *asked: Asked, by: str = "a") -> bool:
    """Whether the last one, a write of `by`, has a read of its own; the others are a's."""
    reads, fresh = FreshReads(loads), False
    for number, each in enumerate(asked, 1):
        who = by if number == len(asked) else "a"
        if each.writes:
            fresh = reads.spent(who, each)
        else:
            reads.read(who, each)
    return fresh


@pytest.mark.parametrize("move", [alias(), target(), target("second")])
def test_a_move_needs_a_read_of_its_promotion(move: Asked) -> None:
    assert last_is_fresh(ONE, read(), move)
    assert not last_is_fresh(ONE, move)
    assert not last_is_fresh(ONE, read(), move, by="b"), "another process has read it"


@pytest.mark.parametrize(
    "before",
    [
        alias(),
        target(),
        status(),
        STAGE,
        model_tag(ledger.head_tag_key("champion")),
        version_tag(ledger.entry_tag_key("champion", 7)),
        version_tag("podium.dev/champion/phase"),
    ],
    ids=lambda asked: asked.name,
)
def test_a_read_is_for_one_write(before: Asked) -> None:
    """However many reads there were: what is left of them is older than that write."""
    assert not last_is_fresh(ONE, read(), read(), before, alias())
    assert last_is_fresh(ONE, read(), before, read(), alias())


@pytest.mark.parametrize("beside", [EVENT, REGISTRY], ids=lambda asked: asked.name)
def test_what_is_written_beside_a_pass_takes_no_read(beside: Asked) -> None:
    assert last_is_fresh(ONE, read(), beside, alias())


@pytest.mark.parametrize(
    "others",
    [
        alias("staging"),
        target("staging"),
        status("staging"),
        model_tag(ledger.head_tag_key("staging")),
        version_tag("podium.dev/staging/phase"),
        STAGE,  # whose it is, is not known
    ],
    ids=lambda asked: asked.name,
)
def test_of_two_promotions_each_has_its_own_reads(others: Asked) -> None:
    assert last_is_fresh(TWO, read(), others, alias())
    assert not last_is_fresh(TWO, read(), read("staging"), alias(), alias())
    assert not last_is_fresh(TWO, read("staging"), target("api"))
    assert last_is_fresh(TWO, read("staging"), read(), target("staging"))
