"""The span in which two lists differ is the shortest one."""

from __future__ import annotations

from operator import ne

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odc.domain.changed_span import ChangedSpan, changed_span

LISTS = st.lists(st.integers(0, 2), max_size=6)


@given(LISTS, LISTS)
def test_outside_of_the_span_two_lists_are_the_same_and_its_ends_differ(before: list[int], now: list[int]) -> None:
    span = changed_span(before, now, ne)
    if span is None:
        assert before == now
        return
    start, end_before, end_now = span
    assert before[:start] == now[:start]
    assert before[end_before:] == now[end_now:]
    old, new = before[start:end_before], now[start:end_now]
    assert old or new
    if old and new:
        assert old[0] != new[0]
        assert old[-1] != new[-1]


@pytest.mark.parametrize(
    ("before", "now", "span"),
    [
        ("abc", "abcd", ChangedSpan(3, 3, 4)),
        ("abc", "bc", ChangedSpan(0, 1, 0)),
        ("abc", "axc", ChangedSpan(1, 2, 2)),
        ("aa", "a", ChangedSpan(1, 2, 1)),
        ("", "", None),
    ],
)
def test_a_span_begins_and_ends_where_the_lists_differ(before: str, now: str, span: ChangedSpan | None) -> None:
    assert changed_span(before, now, ne) == span


def test_equal_objects_differ_unless_they_are_the_same() -> None:
    one = ["a"]
    assert changed_span([one], [one]) is None
    assert changed_span([one], [["a"]]) == ChangedSpan(0, 1, 1)
