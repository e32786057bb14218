"""Asks the Service all the time while the champion changes, and counts who answered."""

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
        self._versions = {answers: version for version, answers in offline.items()}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []

    def __enter__(self) -> "Asker":
        if self._stage.serves:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._stage.serves:
            self._thread.join(15)

    @property
    def tally(self) -> str:
        """How many answers came from which version."""
        return ", ".join(f"version {v}: {n}" for v, n in sorted(self.answered.items()))

    def _ask(self) -> None:
        while not self._end.wait(_PAUSE):
            try:
                answers = self._stage.predict(self._rows)
            except PredictionError as failure:
                self.failures.append(str(failure))
                continue
            version = self._versions.get(answers)
            if version is None:
                self.failures.append(f"answers that no version gives: {answers}")
            else:
                self.answered[version] += 1
