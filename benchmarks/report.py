"""Figures: what was measured, against what is wanted of it, as a table and as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured number. `target` is what DESIGN section 8 asks for: at most that, or, with
    `at_least`, no less."""

    part: str
    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value in targets: how far from, or within, what is wanted."""
        return round(self.value / self.target, 3) if self.target else None

    @property
    def met(self) -> bool | None:
        """None where nothing is asked."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass
class Report:
    """All figures of one run, and what they were measured on and with."""

    machine: dict[str, object]
    settings: dict[str, object]
    figures: list[Figure] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, part: str, name: str, value: float, unit: str, **more: Any) -> None:
        self.figures.append(Figure(part, name, round(value, 4), unit, **more))

    def print(self, console: Console) -> None:
        table = Table(title=", ".join(f"{k} {v}" for k, v in self.settings.items()))
        for column in ("part", "what", "figure", "target", "figure/target", "note"):
            right = column in ("figure", "target", "figure/target")
            table.add_column(column, justify="right" if right else "left")
        part = ""
        for each in self.figures:
            sign = "" if each.target is None else (">= " if each.at_least else "<= ")
            table.add_row(
                each.part if each.part != part else "",
                each.name,
                f"{each.value:g} {each.unit}",
                "" if each.target is None else f"{sign}{each.target:g}",
                _against(each),
                each.note,
            )
            part = each.part
        console.print(table)
        console.print(", ".join(f"{k} {v}" for k, v in self.machine.items()))

    def write(self, path: Path) -> None:
        figures = [{**asdict(f), "ratio": f.ratio, "met": f.met} for f in self.figures]
        kept = {"machine": self.machine, "settings": self.settings, "details": self.details}
        path.write_text(json.dumps({**kept, "figures": figures}, indent=1) + "\n")


def _against(figure: Figure) -> str:
    ratio = "" if figure.ratio is None else f"{figure.ratio:g}"
    return f"{ratio} MISSED".strip() if figure.met is False else ratio


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is no greater than (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
