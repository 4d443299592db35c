"""One line for each budget: the figure, its floor, their ratio, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

HEAD = ("WHAT", "BUDGET", "FIGURE", "FLOOR", "RATIO", "VERDICT")


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        what: was measured.
        unit: of the budget and the figures.
        figure: ours; the median.
        budget: the most that it may be, in the unit; or, with `of_floor`, the most that the ratio may be.
        floor: what the machine needs at the least, measured in the same run; None where there is no such thing.
        of_floor: the budget is a ratio.
        note: what one must know to read it.
    """

    what: str
    unit: str
    figure: float
    budget: float
    floor: float | None = None
    of_floor: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The figure in floors."""
        return self.figure / self.floor if self.floor else None

    @property
    def over(self) -> float:
        """By which part the budget is passed; 0 or less if it is met."""
        measured = self.ratio if self.of_floor else self.figure
        if measured is None:
            raise ValueError(f"{self.what}: a budget in floors needs a floor")
        return measured / self.budget - 1

    @property
    def verdict(self) -> str:
        """In words."""
        return "ok" if self.over <= 0 else f"over by {self.over:.0%}"


def _number(value: float, unit: str) -> str:
    digits = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:.{digits}f} {unit}"


def table(rows: Iterable[Row]) -> str:
    """The rows as people read them; below, what one must know to read them."""
    listed = list(rows)
    cells = [HEAD]
    for row in listed:
        budget = f"{row.budget:g} x floor" if row.of_floor else f"{row.budget:g} {row.unit}"
        floor = "-" if row.floor is None else _number(row.floor, row.unit)
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        cells.append((row.what, budget, _number(row.figure, row.unit), floor, ratio, row.verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    notes: dict[str, list[str]] = {}
    for row in listed:
        notes.setdefault(row.note, []).append(row.what)
    return "\n".join([*lines, "", *(f"{'; '.join(whats)}: {note}" for note, whats in notes.items() if note)]).strip()
