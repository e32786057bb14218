"""docs/reasons.md promises every reason that a condition or an Event can carry, and no other."""

import re
from collections import Counter
from pathlib import Path

from podium.api.reasons import Reason

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+) \| (nobody|you) \| (.*)\|$", re.MULTILINE)


def rows() -> list[tuple[str, str, str, str]]:
    return [(name, meaning, who, do.strip()) for name, meaning, who, do in ROW.findall(text())]


def text() -> str:
    return PAGE.read_text()


def test_the_page_lists_exactly_the_reasons_of_the_code() -> None:
    assert {name for name, *_ in rows()} == {reason.value for reason in Reason}


def test_no_reason_is_listed_twice() -> None:
    assert [name for name, count in Counter(name for name, *_ in rows()).items() if count > 1] == []


def test_every_row_of_a_table_is_read_by_this_test() -> None:
    assert len(rows()) == sum(line.startswith("| `") for line in text().splitlines())


def test_whoever_must_act_is_told_what_to_do() -> None:
    assert [name for name, _, who, do in rows() if who == "you" and not do] == []
