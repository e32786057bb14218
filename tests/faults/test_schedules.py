"""Random schedules in simulated time (docs/testing.md): seconds each, no server, no cluster."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.breaks import BREAKS, broken
from tests.faults.calls import System
from tests.faults.schedules.network import Break, Outage, Sort
from tests.faults.schedules.schedule import (
    DRAWN,
    FAR,
    Away,
    ClockSet,
    Killed,
    OnCall,
    Schedule,
    draw,
)
from tests.faults.schedules.shrink import shrunk
from tests.faults.schedules.trial import Outcome, play
from tests.faults.stories import STORIES

SEEDS = 200
MENDED = [291, 744, 935, 1457, 2511, 2595, 3014, 9505, 50769]  # of docs/testing.md's table
PORTION = 20  # so that workers can share them
ROOT = Path(__file__).parents[2]
# Stories in which the break is looked for, and what names it.
CAUGHT = {
    "act-before-persisting": ("second-champion-alias", "I6"),
    "skip-uncached-read": ("second-champion-alias", "rule 3"),
    "skip-read-before-moves": ("chain", "rule 3"),
    "constant-move-id": ("old-pod-restarted", "serves 2, the champion is 1"),
}


@pytest.mark.parametrize(
    "seeds", [*(range(at, at + PORTION) for at in range(0, SEEDS, PORTION)), MENDED], ids=str
)
def test_what_must_hold_holds_in_every_schedule(seeds: Sequence[int]) -> None:
    failed = []
    for seed in seeds:
        schedule = draw(str(seed))
        if violations := play(schedule).violations:
            failed += [*schedule.words(), *violations]
    assert not failed, "\n".join([*failed, "Replay: make faults SEED=the seed"])


def test_without_faults_every_story_ends_as_it_says() -> None:
    for story in STORIES:
        outcome = play(Schedule("quiet", story, 1, ()))
        assert not outcome.violations, f"{story}: {outcome.violations}"


def test_a_few_throttled_requests_do_not_add_up() -> None:
    """The server asks for a second each time; no replica is away, and the clock is not set."""
    reads, writes = (2, 6, 19, 28, 34, 47, 50), (9, 13, 20, 23, 25, 38, 54)
    throttled = [
        OnCall(sort, nth, Break.THROTTLED, 0.0)
        for sort, numbers in ((Sort.READ, reads), (Sort.WRITE, writes))
        for nth in numbers
    ]
    lasts = ClockSet(200.0, "a", 0.0)  # so long they may come
    outcome = play(Schedule("23", "rolled-back-by-decision", 1, (*throttled, lasts)))
    assert not outcome.violations and len(outcome.fired) > 10
    [over] = [line for line in outcome.trace if line.endswith("podium.dev/ledger/6: 200")]
    assert float(over.split()[0]) < 60


@pytest.mark.parametrize("how", [Outage.UNAVAILABLE, Outage.SILENT])
def test_a_target_that_is_not_seen_at_once_after_the_deadline_takes_nothing_back(
    how: Outage,
) -> None:
    """The operator dies right after the change and comes back when the time is over; all has rolled
    out, and the API server stops answering while that is being read, somewhere in 0.2 s."""
    seconds = 4.0 if how is Outage.UNAVAILABLE else 10.5
    for nth in range(0, 40, 4):
        away = Away(58.53 + nth * 0.005, System.KUBERNETES, how, seconds)
        injections = (Killed(1.5, "a", 45.0, False), away)
        outcome = play(Schedule("x", "second-champion-alias", 1, injections))
        assert not outcome.violations, outcome.violations


def test_a_seed_is_the_same_run_each_time_in_every_process() -> None:
    digest = play(draw("7")).digest
    assert play(draw("7")).digest == digest != play(draw("8")).digest
    path = f"{ROOT}:{ROOT / 'operator'}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.schedules", "--seed", "7"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert f"digest {digest}," in done.stdout


def test_what_is_drawn_is_not_always_the_same() -> None:
    drawn = [draw(str(seed)) for seed in range(SEEDS)]
    kinds = {type(one) for schedule in drawn for one in schedule.injections}
    assert {schedule.story for schedule in drawn} == set(DRAWN)
    assert len(kinds) == 12
    hows = {one.how for s in drawn for one in s.injections if isinstance(one, OnCall)}
    assert hows == set(Break)
    assert any(schedule.meddled for schedule in drawn)
    assert Schedule("", "rejected", 1, (ClockSet(1.0, "a", FAR),)).meddled


def test_most_of_what_is_to_break_does() -> None:
    outcomes = [play(draw(str(seed))) for seed in range(40)]
    asked = sum(isinstance(one, OnCall) for o in outcomes for one in o.schedule.injections)
    assert sum(len(outcome.fired) for outcome in outcomes) > asked / 2


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_of_the_operator_is_found(name: str) -> None:
    story, says = CAUGHT[name]
    with broken(name):
        failed = _first_failing(story)
        assert failed is not None, f"{name} was not noticed"
        assert any(says in violation for violation in failed.violations), failed.violations

        short = shrunk(failed.schedule, lambda schedule: bool(play(schedule).violations))
        assert play(short).violations
        assert len(short.injections) <= len(failed.schedule.injections)
    assert not play(failed.schedule).violations


def _first_failing(story: str) -> Outcome | None:
    outcomes = (play(draw(str(seed), (story,))) for seed in range(30, 90))
    return next((outcome for outcome in outcomes if outcome.violations), None)
