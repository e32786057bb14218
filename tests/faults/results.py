"""What came of each case, kept in a file of JSON lines: a run can go on where it ended, and the
tables are printed from it.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.faults.calls import Call, System
from tests.faults.fault import AT_MOST, ONE_CALL_FAULTS, Fault, faults_of

MOST_NOT_MADE = 0.05  # of what was played of a story; the rest says nothing of the calls


class Word(StrEnum):
    """What a case came to."""

    HELD = "held"
    VIOLATED = "violated"
    NOT_MADE = "not made"  # the call did not come again, in any try
    NOT_FIRED = "did not fire"


_SIGNS = {
    Word.HELD: "[green]●[/]",
    Word.VIOLATED: "[red]✘[/]",
    Word.NOT_MADE: "[yellow]–[/]",
    Word.NOT_FIRED: "[red]○[/]",
}


@dataclass(frozen=True)
class Case:
    story: str
    call: Call
    fault: Fault

    @property
    def order(self) -> int:
        """What is broken first: writes, then two operators, Events, and reads."""
        if not self.call.writes:
            return 3
        if self.call.is_event:
            return 2
        return 0 if self.fault in ONE_CALL_FAULTS else 1


@dataclass(frozen=True)
class Result:
    case: Case
    word: Word
    seconds: float
    violations: tuple[str, ...] = ()
    together: int = 1  # so many calls were broken in that telling of the story

    @property
    def came(self) -> bool:
        """Whether the call came, and was broken. If not, it is to be played again."""
        return self.word in (Word.HELD, Word.VIOLATED)


def grouped(cases: Iterable[Case], size: int) -> list[list[Case]]:
    """What can be played in one telling: at most `size` calls with one fault, as far from each
    other as there are calls. Never two writes of one name: one that is tried again is counted as
    the next of its name, and the second break would befall that."""
    alike: dict[tuple[str, Fault], list[Case]] = {}
    for case in cases:
        alike.setdefault((case.story, case.fault), []).append(case)
    groups: list[list[Case]] = []
    for (_, fault), each in alike.items():
        number = math.ceil(len(each) / min(size, AT_MOST.get(fault, size)))
        for first in range(number):
            groups += _without_retries(each[first::number])
    return groups


def _without_retries(cases: list[Case]) -> list[list[Case]]:
    """As few groups as there can be."""
    groups: list[list[Case]] = []
    for case in cases:
        fits = (g for g in groups if not any(_may_be_a_retry(case, other) for other in g))
        group = next(fits, None)
        if group is None:
            groups.append([case])
        else:
            group.append(case)
    return groups


def _may_be_a_retry(case: Case, other: Case) -> bool:
    """Of a read what comes after another write is none; and LAGGING lets every call through."""
    same = case.call.name == other.call.name
    return same and case.call.writes and case.fault is not Fault.LAGGING


@dataclass
class Recording:
    """The calls of a story without any fault."""

    calls: tuple[Call, ...]
    staleable: frozenset[Call]

    def cases(self, story: str) -> list[Case]:
        """Each write, and of the reads between two writes each kind once, with each fault that
        makes a difference to it."""
        points = [call for call in dict.fromkeys(self.calls) if call.writes or call.nth == 1]
        return [
            Case(story, call, fault)
            for call in points
            for fault in faults_of(call)
            if (fault is not Fault.STALE or call in self.staleable)
            # Of two promotions one may be between its look and its write when both are deleted.
            and (fault is not Fault.DELETED or story != "chain")
        ]


class ResultsError(Exception):
    """A file that is none of ours."""


@dataclass
class Results:
    """Those of a file, and of this run, which adds to it. Without a file only of this run. Raises
    ResultsError, and OSError."""

    path: Path | None
    recordings: dict[str, Recording] = field(default_factory=dict)
    of: dict[Case, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            self._read_all(self.path)

    def recorded(self, story: str, recording: Recording) -> None:
        self.recordings[story] = recording
        calls = [asdict(call) for call in recording.calls]
        staleable = [asdict(call) for call in sorted(recording.staleable)]
        self._write({"recorded": story, "calls": calls, "staleable": staleable})

    def add(self, result: Result) -> None:
        self.of[result.case] = result
        self._write(asdict(result))

    @property
    def stories(self) -> tuple[str, ...]:
        """That were recorded, or played."""
        return tuple(dict.fromkeys([*self.recordings, *(case.story for case in self.of)]))

    def cases(self, story: str) -> tuple[Case, ...]:
        """All of its cases: those of the recording, and what was played beside them."""
        recording = self.recordings.get(story)
        recorded = recording.cases(story) if recording else []
        played = (case for case in self.of if case.story == story)
        return tuple(dict.fromkeys([*recorded, *played]))

    def words(self, story: str | None = None) -> Counter[str]:
        found = self.of.values()
        return Counter(str(r.word) for r in found if story in (None, r.case.story))

    def hardly_made(self) -> list[str]:
        """The stories of which too many cases were not made to tell anything, in words."""
        found = []
        for story in self.stories:
            words = self.words(story)
            missed, played = words[Word.NOT_MADE], words.total()
            if missed > MOST_NOT_MADE * played:
                share = f"more than {MOST_NOT_MADE:.0%}"
                found.append(f"{story}: {missed} of {played} cases were not made, {share}")
        return found

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _read_all(self, path: Path) -> None:
        """A last line that was cut off with the run is dropped, and played anew."""
        lines = path.read_text().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            path.write_text("".join(lines[:-1]))
            del lines[-1]
        for number, line in enumerate(lines, 1):
            try:
                self._read(json.loads(line))
            except (ValueError, LookupError, TypeError) as error:
                raise ResultsError(f"{path}, line {number}: no result ({error})") from error

    def _read(self, line: dict[str, Any]) -> None:
        if "recorded" in line:
            calls = tuple(_call(call) for call in line["calls"])
            staleable = frozenset(_call(call) for call in line["staleable"])
            self.recordings[line["recorded"]] = Recording(calls, staleable)
            return
        raw = line["case"]
        case = Case(raw["story"], _call(raw["call"]), Fault(raw["fault"]))
        said = tuple(line["violations"])
        word, together = Word(line["word"]), line.get("together", 1)
        self.of[case] = Result(case, word, line["seconds"], said, together)


def _call(raw: dict[str, Any]) -> Call:
    return Call(**{**raw, "system": System(raw["system"])})


def table(results: Iterable[Result], story: str) -> Table:
    """Calls x faults of one story."""
    of = {(each.case.call, each.case.fault): each for each in results if each.case.story == story}
    used = [fault for fault in Fault if any(f is fault for _, f in of)]
    words = Counter(str(each.word) for each in of.values())
    shown = Table(title=f"{story}: {dict(words)}")
    shown.add_column("call", no_wrap=True)
    for fault in used:
        shown.add_column(fault.name.replace("_", " "))
    for call in dict.fromkeys(call for call, _ in of):
        row = [of.get((call, fault)) for fault in used]
        shown.add_row(str(call), *(_SIGNS[each.word] if each else "" for each in row))
    return shown


def summary(results: Results) -> Table:
    """A row for each story: calls and cases as recorded, and what came of those played."""
    shown = Table(title="stories")
    shown.add_column("story", no_wrap=True)
    for title in ("writes", "reads", "cases", "played", *Word, "seconds each"):
        shown.add_column(title, justify="right")
    rows = {story: (story,) for story in results.stories}
    for title, stories in {**rows, "all": results.stories}.items():
        cases = [case for story in stories for case in results.cases(story)]
        calls = {(case.story, case.call) for case in cases}
        writes = sum(call.writes for _, call in calls)
        played = [each for each in results.of.values() if each.case.story in stories]
        words = Counter(each.word for each in played)
        mean = sum(each.seconds for each in played) / len(played) if played else 0.0
        counts = [writes, len(calls) - writes, len(cases), len(played)]
        counts += [words[word] for word in Word]
        shown.add_row(title, *map(str, counts), f"{mean:.1f}")
    return shown
