"""Ranges of host ids: one for homes, and one for each SSH port."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from odc.domain.host_ids import ID_COUNT, LARGEST_ID, IdRanges

BASES = st.integers(ID_COUNT, LARGEST_ID - ID_COUNT)
PORTS = st.tuples(st.integers(1024, 65535), st.integers(1024, 65535)).map(lambda pair: (min(pair), max(pair)))


@given(BASES, PORTS, st.data())
def test_no_two_ports_share_an_id_and_none_has_one_of_the_homes(
    base: int, ports: tuple[int, int], data: st.DataObject
) -> None:
    ranges = IdRanges(base=base, ports=ports, separate=True)
    one, two = (data.draw(st.integers(*ports)) for _ in range(2))
    first, second = ranges.range_of(one), ranges.range_of(two)
    assert first == second if one == two else abs(first - second) >= ID_COUNT
    assert base + ID_COUNT <= first
    assert first + ID_COUNT - 1 <= ranges.last


def test_a_cloud_whose_ports_need_more_ids_than_there_are_says_so() -> None:
    base = LARGEST_ID + 1 - 6 * ID_COUNT
    assert IdRanges(base=base, ports=(30000, 30004)).fit
    assert IdRanges(base=base, ports=(30000, 30004)).last == LARGEST_ID
    assert not IdRanges(base=base, ports=(30000, 30005)).fit


def test_boxes_that_share_a_range_have_none_of_their_own() -> None:
    assert IdRanges(base=ID_COUNT, ports=(30000, 30001)).range_of(30001) == 0
