"""Which queued reservations a pass has to look into: all but those that wait for the time they were told. Pure.

What one of them says depends on its record and its slot, so only those are looked into again that have another one
than in the pass before. From nothing, the answer is the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter

from odc.domain.changed_span import changed_span
from odc.domain.limits import Limits
from odc.domain.promise import TELL_IMPROVEMENT
from odc.domain.reservation import Reservation, SlotRecord

_order = attrgetter("order")
_start = attrgetter("start")


class QueueNews:
    """The reservations of one pool that there may be a step for. Not for use by several threads at once."""

    def __init__(self, limits: Limits) -> None:
        """Begin without any reservation."""
        self._limits = limits
        self._queue: Sequence[Reservation] = ()
        self._slots: Mapping[int, SlotRecord] = {}
        self._news: dict[int, Reservation] = {}
        self._earliest: datetime | None = None

    def look(self, queue: Sequence[Reservation], slots: Mapping[int, SlotRecord]) -> None:
        """Take over the queue and its slots.

        Args:
            queue: by place in line.
            slots: by place in line.
        """
        span = changed_span(self._queue, queue)
        changed = list(queue[span.start : span.end_now]) if span else []
        for record in self._queue[span.start : span.end_before] if span else ():
            self._news.pop(record.order, None)
        if slots is not self._slots:
            changed += self._with_other_slots(queue, slots)
            self._earliest = min(map(_start, slots.values()), default=None)
        self._queue, self._slots = queue, slots
        for record in changed:
            if self._has_news(record):
                self._news[record.order] = record
            else:
                self._news.pop(record.order, None)

    @property
    def earliest(self) -> datetime | None:
        """When the first slot starts; None without any."""
        return self._earliest

    def at(self, now: datetime) -> list[Reservation]:
        """Return the reservations that there may be a step for now, by place in line."""
        if self._earliest is None or self._earliest > now:
            return sorted(self._news.values(), key=_order)
        slots, news = self._slots, self._news
        return [r for r in self._queue if r.order in news or (r.order in slots and slots[r.order].start <= now)]

    def _with_other_slots(self, queue: Sequence[Reservation], slots: Mapping[int, SlotRecord]) -> list[Reservation]:
        """Return the reservations whose slot is new, another one, or gone."""
        before = self._slots
        orders = [order for order, slot in slots.items() if before.get(order) is not slot]
        if len(before) + len(orders) != len(slots):
            orders += before.keys() - slots.keys()
        places = ((order, bisect_left(queue, order, key=_order)) for order in orders)
        return [queue[place] for order, place in places if place < len(queue) and queue[place].order == order]

    def _has_news(self, record: Reservation) -> bool:
        """Whether there may be a step for it at any time."""
        slot, told = self._slots.get(record.order), record.ready_by
        if slot is None or slot.estimate or record.fault is not None or told is None:
            return True
        return not told - TELL_IMPROVEMENT < slot.start + self._limits.prepare <= told
