"""What goes away and comes back: the operator, MLflow, the API server; when is planned beforehand.

The operator is restarted in the beginning only: then one process lives on to the end, for twenty
minutes or two thirds of a short soak, and its memory can be judged.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.soak.town import Town
from tests.integration.operator.conftest import api_server_killed

OPERATOR_EVERY, MLFLOW_EVERY, API_SERVER_EVERY = 75.0, 240.0, 330.0
LIVES = 1200.0  # seconds that the last operator process is left alone
QUIET_END = 0.95  # of the time: after it nothing goes away
UNAWARE_SECONDS = 5.0  # in which a pass that read MLflow before it went away may end
AWAY_SECONDS = 5.0  # after those


Deployments = Mapping[str, dict[str, Any]]


@dataclass(frozen=True, order=True)
class Outage:
    at: float
    what: str


def plan(seconds: float, seed: int) -> list[Outage]:
    """In a short soak each comes once or twice all the same."""
    replaced_until = seconds - LIVES if seconds >= LIVES * 1.2 else seconds / 3
    draw = random.Random(seed)
    found = []
    for what, every, last in (
        ("operator", OPERATOR_EVERY, replaced_until),
        ("mlflow", MLFLOW_EVERY, seconds * QUIET_END),
        ("api server", API_SERVER_EVERY, seconds * QUIET_END),
    ):
        step = min(every, last / 2)
        at = step * draw.uniform(0.4, 1.0)
        while at < last:
            found.append(Outage(at, what))
            at += step * draw.uniform(0.7, 1.3)
    return sorted(found)


class Outages:
    """Makes them happen, each in a thread of its own time: `due` is called again and again."""

    def __init__(self, town: Town, planned: list[Outage], seed: int) -> None:
        self._town, self._planned = town, list(planned)
        self._draw = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.violations: list[str] = []

    def due(self, now: float) -> None:
        """The outages whose time has come, one after the other."""
        while self._planned and self._planned[0].at <= now:
            outage = self._planned.pop(0)
            _MAKE[outage.what](self)

    def operator(self) -> None:
        number = self._draw.choice((signal.SIGTERM, signal.SIGKILL))
        code = self._town.operator.replace(number)
        self.done[f"operator {number.name}"] += 1
        if number is signal.SIGTERM and code != 0:
            self.done["operator did not stop in order"] += 1

    def mlflow(self) -> None:
        self._town.mlflow.stop()
        try:
            time.sleep(UNAWARE_SECONDS)
            before = self._town.deployments()
            time.sleep(AWAY_SECONDS)
            self.violations += changed_while_away(before, self._town.deployments())
        finally:
            self._town.mlflow.start()
        self.done["MLflow restarted"] += 1

    def api_server(self) -> None:
        with api_server_killed(self._town.bed):
            self._town.operator.keep_up()
        self.done["API server killed"] += 1


def changed_while_away(before: Deployments, after: Deployments) -> list[str]:
    """I4: nobody but Podium changes the template of a Deployment in this town."""
    return [
        f"I4: Deployment {name} was changed while MLflow was away"
        for name in before.keys() & after.keys()
        if before[name]["metadata"]["uid"] == after[name]["metadata"]["uid"]
        and before[name]["spec"]["template"] != after[name]["spec"]["template"]
    ]


_MAKE: dict[str, Callable[[Outages], None]] = {
    "operator": Outages.operator,
    "mlflow": Outages.mlflow,
    "api server": Outages.api_server,
}
