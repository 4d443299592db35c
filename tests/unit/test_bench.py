"""The bench's table: verdicts are about budgets, ratios about floors, and a row's line says all of it."""

from __future__ import annotations

import pytest
from bench.measuring import in_turns
from bench.table import HEAD, Row, table


@pytest.mark.parametrize(
    ("figure", "verdict"), [(99.0, "ok"), (100.0, "ok"), (101.0, "over by 1%"), (250.0, "over by 150%")]
)
def test_a_verdict_says_by_how_much_a_budget_is_passed(figure: float, verdict: str) -> None:
    assert Row("it", "ms", figure, 100).verdict == verdict


@pytest.mark.parametrize(("figure", "verdict"), [(520.0, "ok"), (600.0, "over by 15%")])
def test_a_budget_in_floors_is_compared_with_the_ratio(figure: float, verdict: str) -> None:
    row = Row("it", "ms", figure, 1.3, floor=400, of_floor=True)
    assert row.ratio == figure / 400
    assert row.verdict == verdict


def test_a_floor_beside_a_plain_budget_changes_no_verdict() -> None:
    row = Row("it", "ms", 90, 100, floor=1)
    assert (row.ratio, row.verdict) == (90, "ok")


def test_a_budget_in_floors_without_a_floor_is_a_mistake_that_is_named() -> None:
    with pytest.raises(ValueError, match="it: a budget in floors needs a floor"):
        _ = Row("it", "ms", 90, 1.3, of_floor=True).verdict


def test_the_table_is_aligned_and_has_a_line_for_each_row_and_a_note_once() -> None:
    rows = [
        Row("a short one", "ms", 12.34, 25),
        Row("one that is much longer", "MB", 0.123, 120, floor=0.1, note="the same"),
        Row("in floors", "ms", 500, 1.3, floor=400, of_floor=True, note="the same"),
    ]
    lines = table(rows).splitlines()
    assert lines[0].split() == list(HEAD)
    starts = {
        line.index(word) for line, word in zip(lines[:4], ("BUDGET", "25 ms", "120 MB", "1.3 x floor"), strict=True)
    }
    assert len(starts) == 1
    assert lines[1].split() == ["a", "short", "one", "25", "ms", "12", "ms", "-", "-", "ok"]
    assert lines[2].endswith("0.12 MB  0.10 MB  1.23   ok")
    assert lines[3].endswith("500 ms   400 ms   1.25   ok")
    assert lines[4:] == ["", "one that is much longer; in floors: the same"]


def test_figures_are_medians_taken_in_turns_after_one_turn_that_does_not_count() -> None:
    order: list[str] = []
    figures = {"a": iter([100.0, 1.0, 9.0, 2.0]), "b": iter([0.0, 5.0, 5.0, 50.0])}

    def measure(name: str) -> float:
        order.append(name)
        return next(figures[name])

    assert in_turns({"a": lambda: measure("a"), "b": lambda: measure("b")}, 3) == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b"] * 4
