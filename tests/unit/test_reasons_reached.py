"""Every reason that docs/reasons.md promises is named by some code of the operator."""

import re
from pathlib import Path

from podium.api.promotion_status import Phase
from podium.api.reasons import Reason

OPERATOR = Path(__file__).parents[2] / "operator" / "podium"


def test_no_reason_is_promised_that_nothing_can_produce() -> None:
    texts = (path.read_text() for path in OPERATOR.rglob("*.py") if path.name != "reasons.py")
    named = {name for text in texts for name in re.findall(r"\bReason\.([A-Z_]+)\b", text)}
    phases = {phase.value for phase in Phase}
    assert {r.value for r in Reason if r.name not in named and r.value not in phases} == set()
