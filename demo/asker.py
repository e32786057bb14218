"""Asks the Service all the time while the champion changes, and counts who answered.

`offline` may grow meanwhile: who answered is worked out when it is asked.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from demo.stage import PredictionError, Stage

_PAUSE = 0.25  # seconds between two questions


class Asker:
    """Between `with` and its end, a prediction four times a second on a fresh connection."""

    def __init__(
        self,
        stage: Stage,
        rows: Sequence[Sequence[float]],
        offline: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._stage = stage
        self._rows = rows
        self._offline = offline
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._given: Counter[tuple[str, ...]] = Counter()
        self._unanswered: list[str] = []

    def __enter__(self) -> "Asker":
        if self._stage.serves:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._stage.serves:
            self._thread.join(15)

    @property
    def asked(self) -> int:
        """How many questions there were."""
        return self._given.total() + len(self._unanswered)

    @property
    def answered(self) -> dict[str, int]:
        """How many answers came from which version."""
        return {v: self._given[a] for v, a in self._offline.items() if self._given[a]}

    @property
    def failures(self) -> list[str]:
        """Questions without an answer, and answers that no version gives."""
        known = set(self._offline.values())
        strange = [f"an answer that no version gives: {a}" for a in self._given if a not in known]
        return self._unanswered + strange

    @property
    def tally(self) -> str:
        """The same for people."""
        return ", ".join(f"version {v}: {n}" for v, n in self.answered.items())

    def _ask(self) -> None:
        while not self._end.wait(_PAUSE):
            try:
                self._given[self._stage.predict(self._rows)] += 1
            except PredictionError as failure:
                self._unanswered.append(str(failure))
