"""What is read before a decision: nothing where all is well, and everything before a step."""

from dataclasses import replace

import pytest

from podium.api.promotion import Stage
from podium.api.promotion_status import Verdict
from podium.api.reasons import Reason
from podium.engine.decision import Needs
from podium.engine.needs import needs
from podium.engine.observation import Problem, ProblemKind
from tests.unit.engine.iris import GATE, grown, world

AWAY = Problem(ProblemKind.TRANSIENT, Reason.REGISTRY_UNAVAILABLE, "no answer")
ALL = Needs(fresh=True, versions=True)


def test_where_all_is_well_nothing_is_read() -> None:
    w = grown()
    assert needs(w.observe(), w.now) == Needs()


@pytest.mark.parametrize(
    "met",
    [
        {"registry_problem": AWAY},
        {"action_problem": AWAY},
        {"unsettled": True},
        {"model": None},
    ],
    ids=lambda met: str(*met),
)
def test_where_something_is_in_the_way_all_is_read(met: dict[str, object]) -> None:
    w = grown()
    assert needs(replace(w.observe(), **met), w.now) == ALL  # type: ignore[arg-type]


def test_a_champion_of_staging_that_somebody_archived_is_well() -> None:
    """Somebody else's stage is left; a read at each poll would be for nothing."""
    w = grown(stage="Staging")
    assert w.stages()["2"] == "Staging"
    w.to_stage("2", Stage.ARCHIVED)
    w.run()
    assert w.stages()["2"] == "Archived"
    assert needs(w.observe(), w.now) == Needs()


@pytest.mark.parametrize(
    ("phase", "moves", "wanted"),
    [
        ("Validating", False, replace(ALL, gates_for="3")),
        ("AwaitingApproval", False, replace(ALL, gates_for="3")),
        ("Promoting", False, replace(ALL, pods=True, gates_for="3")),
        ("Promoting", True, replace(ALL, pods=True)),
        ("Verifying", True, replace(ALL, pods=True)),
        ("Baking", True, replace(ALL, pods=True)),
        ("RollingBack", True, replace(ALL, pods=True)),
    ],
)
def test_gates_are_asked_before_the_move_and_pods_from_then_on(
    phase: str, moves: bool, wanted: Needs
) -> None:
    approval = {"required": 1} if phase == "AwaitingApproval" else None
    w = world(gates=[GATE], rollback={"bakeDuration": "1h"})
    w.register("1")
    w.until("Baking")
    w.until("Promoted", 800)
    w.spec["approval"] = approval or {"required": 0}
    if phase == "Validating":
        w.verdicts["3"] = Verdict.PENDING
    w.register("3")
    if phase == "RollingBack":
        w.broken.add("3")
    w.until(phase, 400)
    while (w.status.active and w.status.active.move_id is not None) != moves:
        w.step()
    assert w.phase == phase
    assert needs(w.observe(), w.now) == wanted
