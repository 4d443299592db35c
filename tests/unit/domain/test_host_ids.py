"""Ranges of host ids: one for homes, and the others for boxes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from odc.domain.host_ids import ID_COUNT, LARGEST_ID, IdRanges


@given(st.integers(ID_COUNT, LARGEST_ID - ID_COUNT), st.integers(1, 5000))
def test_no_two_ranges_share_an_id_and_none_has_one_of_the_homes(base: int, count: int) -> None:
    ranges = IdRanges(base=base, count=count, separate=True)
    firsts = ranges.all()
    assert len(firsts) == count
    assert all(later - earlier == ID_COUNT for earlier, later in pairwise(firsts))
    assert firsts[0] == base + ID_COUNT
    assert firsts[-1] + ID_COUNT - 1 == ranges.last


def test_a_cloud_whose_ranges_need_more_ids_than_there_are_says_so() -> None:
    base = LARGEST_ID + 1 - 6 * ID_COUNT
    assert IdRanges(base=base, count=5).fit
    assert IdRanges(base=base, count=5).last == LARGEST_ID
    assert not IdRanges(base=base, count=6).fit


def test_boxes_that_share_a_range_have_none_of_their_own() -> None:
    assert not IdRanges(base=ID_COUNT, count=2).all()
