"""What a pass has to look into in a queue is the same for a process that has kept what it found before."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.builders import NOW, a_reservation

from odc.control.queue_news import QueueNews
from odc.domain.limits import Limits
from odc.domain.promise import ready_by
from odc.domain.reservation import Reservation, SlotRecord

LIMITS = Limits()
MINUTE = timedelta(minutes=1)
PLAIN = [a_reservation(order=order, version=1) for order in range(5)]
TOLD = [[replace(record, ready_by=ready_by(NOW + n * MINUTE, LIMITS)) for n in range(4)] for record in PLAIN]
SLOTS = [
    SlotRecord(start=NOW + n * MINUTE, nodes=("node-1",), estimate=estimate)
    for n in range(4)
    for estimate in (False, True)
]


@st.composite
def passes(draw: st.DrawFn) -> tuple[list[Reservation], dict[int, SlotRecord], int]:
    """A queue, its slots, and the minutes that have passed."""
    records = [draw(st.sampled_from([None, record, *told])) for record, told in zip(PLAIN, TOLD, strict=True)]
    slots = {order: slot for order in range(5) if (slot := draw(st.sampled_from([None, *SLOTS]))) is not None}
    return [record for record in records if record is not None], slots, draw(st.integers(0, 5))


@given(st.lists(passes(), min_size=2, max_size=5))
def test_kept_news_are_those_from_nothing(history: list[tuple[list[Reservation], dict[int, SlotRecord], int]]) -> None:
    kept = QueueNews(LIMITS)
    for queue, slots, minutes in history:
        kept.look(queue, slots)
        fresh = QueueNews(LIMITS)
        fresh.look(queue, slots)
        now = NOW + minutes * MINUTE
        assert kept.at(now) == fresh.at(now)
        assert kept.earliest == fresh.earliest


def test_a_queued_reservation_is_skipped_until_its_slot_begins() -> None:
    record, slot = TOLD[0][2], SLOTS[4]
    news = QueueNews(LIMITS)
    news.look([record], {record.order: slot})
    assert news.at(NOW) == []
    assert news.at(slot.start) == [record]
    news.look([record], {})
    assert news.at(NOW) == [record]
