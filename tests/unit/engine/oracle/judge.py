"""What DESIGN allows and forbids for one decision, as a list of rules.

`judge` raises AssertionError with the rule that is broken. It knows nothing of earlier passes:
what needs a memory is in `test_oracle`.
"""

from datetime import datetime

from podium.engine.decision import Decision
from podium.engine.observation import Observation
from tests.unit.engine.oracle.actions import ACTIONS
from tests.unit.engine.oracle.case import Case, appended, behind
from tests.unit.engine.oracle.form import FORM
from tests.unit.engine.oracle.phases import PHASES
from tests.unit.engine.oracle.steps import STEPS
from tests.unit.engine.oracle.waiting import WAITING

RULES = (*FORM, *ACTIONS, *PHASES, *STEPS, *WAITING)


def judge(seen: Observation, now: datetime, made: Decision) -> None:
    case = Case(seen, now, made, appended(seen, made.status), behind(seen))
    for rule in RULES:
        rule(case)
