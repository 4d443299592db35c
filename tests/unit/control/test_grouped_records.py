"""Groups of records that are kept from pass to pass are those of a process that has kept nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.builders import a_reservation

from odc.control.grouped_records import GroupedRecords, group_records
from odc.domain.reservation import Reservation, State

RECORDS = [
    a_reservation(order=order, version=1, spec=replace(a_reservation().spec, gpu_type=gpu_type))
    for order, gpu_type in enumerate(["h100", "a100", "h100", "h100", "a100", "h100"])
]


def histories() -> st.SearchStrategy[list[tuple[Reservation, ...]]]:
    """Live records at several times: each is absent, queued or active."""
    each = [st.sampled_from([None, record, replace(record, state=State.ACTIVE)]) for record in RECORDS]
    at_once = st.tuples(*each).map(lambda some: tuple(record for record in some if record is not None))
    return st.lists(at_once, min_size=2, max_size=5)


@given(histories())
def test_kept_groups_are_those_from_nothing(history: list[tuple[Reservation, ...]]) -> None:
    kept = GroupedRecords()
    for records in history:
        kept = group_records(records, kept)
        fresh = group_records(records, GroupedRecords())
        assert (kept.queued, kept.placed, kept.by_id) == (fresh.queued, fresh.placed, fresh.by_id)
        assert kept.all_placed == fresh.all_placed
        assert [record.id for record in kept.records] == [record.id for record in records]


def test_a_group_without_a_change_is_the_same_object() -> None:
    queued = RECORDS[0]
    before = group_records((queued, replace(RECORDS[1], state=State.ACTIVE)), GroupedRecords())
    after = group_records((*before.records, RECORDS[2]), before)
    assert after.placed is before.placed
    assert after.queued["h100"] == (queued, RECORDS[2])
    assert group_records(after.records, after) is after
