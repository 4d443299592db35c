"""Which GPUs a box gets: islands stay whole where a request fits in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odc.domain.node import choose_gpus

TWO = ("0123", "4567")


@pytest.mark.parametrize(
    ("free", "islands", "count", "chosen"),
    [
        ("01234567", (), 3, "012"),
        ("01234567", TWO, 1, "0"),
        ("1234567", TWO, 2, "12"),
        ("1234567", TWO, 4, "4567"),
        ("0145", TWO, 3, "014"),
        ("0123456", TWO, 6, "012345"),
        ("01234567", TWO, 8, "01234567"),
        ("0189", TWO, 2, "01"),
        ("089", TWO, 2, "89"),
    ],
)
def test_the_fullest_island_with_enough_is_used_and_else_as_few_as_possible(
    free: str, islands: tuple[str, ...], count: int, chosen: str
) -> None:
    assert "".join(choose_gpus(free, islands, count)) == chosen


@given(st.sets(st.sampled_from("01234567")), st.integers(0, 8))
def test_as_many_as_asked_for_are_chosen_of_the_free_ones_in_their_order(some: set[str], count: int) -> None:
    free = sorted(some)
    if count > len(free):
        return
    chosen = choose_gpus(free, TWO, count)
    assert len(set(chosen)) == len(chosen) == count
    assert list(chosen) == [gpu for gpu in free if gpu in chosen]
    fits = [island for island in TWO if len(set(island) & some) >= count]
    assert not fits or any(set(chosen) <= set(island) for island in TWO)
