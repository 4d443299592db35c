"""Step 2 of a pass: the plan of every pool, as a document that is stored with the pool's version. No I/O.

A pool is planned only if its picture has changed: its nodes, what is allocated on them, and its queue. Its digest is
stored with the plan, so another process does not plan again either. The plan of an unchanged picture is the stored one:
time alone changes nothing, unless a slot has been due for so long that the planner has to move it.

A process keeps the planner's own form of a plan that it has made, and changes that when one reservation comes or ends
(`change_plan`). This only saves time. It is used only if the stored slots are those that it kept; without it, or after
another process has planned, the pool is planned from the stored slots, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from odc.control.delays import cause_of_delay
from odc.control.observation import Observation
from odc.control.pool_picture import PoolPicture
from odc.control.pools import held_slot
from odc.control.queue_news import QueueNews
from odc.domain.limits import Limits
from odc.domain.pool_document import PoolDocument
from odc.domain.reservation import Reservation, SlotRecord
from odc.scheduling import START_GRACE, PoolChange, PoolPlan, Slot, build_plan, change_plan

_order = attrgetter("order")


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """One pool's plan in this pass.

    Attributes:
        slots: by place in line; a reservation whose slot has come may be placed in it.
        document: to be stored. Its slots are those above, except for reservations that only wait for something that the
            plan does not know: it keeps when their slots began, which is what they were promised.
        changed: whether the document differs from the stored one.
        picture: digest of what the plan was made from.
        plan: returns the plan for questions, within this pass only. If this pass did not plan the pool, it is made when
            it is asked for.
        news: the queued reservations that there may be a step for, by place in line.
        earliest: when the first slot starts; None without any.
    """

    slots: Mapping[int, SlotRecord]
    document: PoolDocument
    changed: bool
    picture: str
    plan: Callable[[], PoolPlan]
    news: Sequence[Reservation]
    earliest: datetime | None


class Planner:
    """Plans every pool in each pass. Not for use by several threads at once."""

    def __init__(self, limits: Limits) -> None:
        """Begin without any plan."""
        self._limits = limits
        self._pools: dict[str, _PoolPlanner] = {}

    def plan_pools(self, seen: Observation) -> dict[str, PlannedPool]:
        """Return the plan of every pool that has nodes or a queue, by GPU type. Empty if the cluster did not answer."""
        if seen.nodes is None:
            return {}
        types = sorted(seen.queued.keys() | {node.gpu_type for node in seen.nodes})
        self._pools = {name: self._pools.get(name) or _PoolPlanner(name, self._limits) for name in types}
        return {name: pool.plan(seen) for name, pool in self._pools.items()}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A plan for the picture as it was last seen, with its slots by place in line."""

    plan: PoolPlan
    slots: Mapping[int, SlotRecord]


class _PoolPlanner:
    """Plans one pool."""

    def __init__(self, gpu_type: str, limits: Limits) -> None:
        self._gpu_type = gpu_type
        self._limits = limits
        self._picture = PoolPicture(gpu_type, limits)
        self._news = QueueNews(limits)
        self._kept: _Kept | None = None

    def plan(self, seen: Observation) -> PlannedPool:
        """The pool's plan in this pass."""
        kept, self._kept = self._kept, None
        change = self._picture.look(seen)
        stored = seen.stored.plans.get(self._gpu_type, PoolDocument())
        digest = self._picture.digest
        queue = seen.queued.get(self._gpu_type, ())
        if not queue or self._still_counts(stored, digest, queue, seen.now):
            self._kept = kept if change is not None and change.is_empty else None
            slots = stored.slots if queue else {}
            return self._planned(slots, stored, False, seen, lambda: self._asked(seen, stored))
        made = self._changed(kept, change, stored, seen) or self._from_nothing(seen, stored)
        if seen.frozen:
            # Made with a clock that may be wrong, so it is not stored.
            return self._planned(made.slots, stored, False, seen, lambda: made.plan)
        self._news.look(queue, made.slots)
        document = _document(digest, made, stored, self._news.at(seen.now), seen, self._limits)
        if document.slots is made.slots:
            self._kept = made
        return self._planned(made.slots, document, document != stored, seen, lambda: made.plan)

    def _planned(
        self,
        slots: Mapping[int, SlotRecord],
        document: PoolDocument,
        changed: bool,
        seen: Observation,
        plan: Callable[[], PoolPlan],
    ) -> PlannedPool:
        self._news.look(seen.queued.get(self._gpu_type, ()), slots)
        return PlannedPool(
            slots, document, changed, self._picture.digest, plan, self._news.at(seen.now), self._news.earliest
        )

    def _still_counts(self, stored: PoolDocument, digest: str, queue: Sequence[Reservation], now: datetime) -> bool:
        if stored.picture != digest:
            return False
        # The planner moves slots that nothing has started in time.
        self._news.look(queue, stored.slots)
        return self._news.earliest is None or self._news.earliest >= now - START_GRACE

    def _asked(self, seen: Observation, stored: PoolDocument) -> PoolPlan:
        """The plan of a picture that was not planned in this pass."""
        older = self._changed(self._kept, PoolChange(now=seen.now), stored, seen)
        self._kept = older or self._from_nothing(seen, stored)
        return self._kept.plan

    def _from_nothing(self, seen: Observation, stored: PoolDocument) -> _Kept:
        plan = build_plan(self._picture.state(seen.now, stored))
        found = ((record.order, plan.slot_of(record.id)) for record in seen.queued.get(self._gpu_type, ()))
        return _Kept(plan, {order: _recorded(slot) for order, slot in found if slot is not None})

    def _changed(
        self, kept: _Kept | None, change: PoolChange | None, stored: PoolDocument, seen: Observation
    ) -> _Kept | None:
        """The plan that was kept, changed like the picture; None if it has to be made from nothing."""
        queue = seen.queued.get(self._gpu_type, ())
        if kept is None or change is None or not _are_held(kept.slots, stored, queue):
            return None
        moved = change_plan(kept.plan, change)
        if moved is None:
            return None
        slots = dict(kept.slots)
        if change.gone:
            for order in slots.keys() - set(map(_order, queue)):
                del slots[order]
        for request_id, slot in moved.items():
            order = self._picture.order_of(request_id)
            if slot is None:
                slots.pop(order, None)
            else:
                slots[order] = _recorded(slot)
        return _Kept(kept.plan, slots)


def _are_held(slots: Mapping[int, SlotRecord], stored: PoolDocument, queue: Sequence[Reservation]) -> bool:
    """Whether the slots are those that the planner would find as held: they are stored, and no record has another."""
    ours = stored.slots
    if not all(_has_slot(record, ours) for record in queue if record.slot is not None):
        return False
    # Usually they are the same object. What was placed or cancelled may be in one of them only.
    return slots is ours or slots == ours or all(slots.get(record.order) == ours.get(record.order) for record in queue)


def _has_slot(record: Reservation, slots: Mapping[int, SlotRecord]) -> bool:
    """Whether the slot of version 0.1.0 in the record does not count: it is only an estimate, or the plan has one."""
    return record.order in slots or (record.slot is not None and record.slot.estimate)


def _recorded(slot: Slot) -> SlotRecord:
    return SlotRecord(start=slot.start, nodes=slot.nodes, estimate=slot.estimate)


def _document(
    digest: str, made: _Kept, stored: PoolDocument, news: Sequence[Reservation], seen: Observation, limits: Limits
) -> PoolDocument:
    """The plan as it is stored, with the cause of each promise that moves later: those are among the news."""
    slots, replanned = made.slots, made.plan.replanned
    waiting = {}
    causes = {}
    for record, slot, told in _late(news, slots, limits):
        before = held_slot(record, stored)
        if before is not None and record.id not in replanned and _only_waits(before, slot, told, seen.now):
            waiting[record.order] = before
            continue
        # From the slot that it had: once the new plan is stored, nothing else says why it had to change.
        causes[record.order] = stored.causes.get(record.order) or cause_of_delay(record, before, seen, limits)
    return PoolDocument(picture=digest, slots={**slots, **waiting} if waiting else slots, causes=causes)


def _late(
    news: Sequence[Reservation], slots: Mapping[int, SlotRecord], limits: Limits
) -> list[tuple[Reservation, SlotRecord, datetime]]:
    """Return the reservations whose slot is too late for their promise, with both."""
    prepare = limits.prepare
    return [
        (record, slot, told)
        for record in news
        if (told := record.ready_by) is not None
        and (slot := slots.get(record.order)) is not None
        and slot.start + prepare > told
        and not slot.estimate
    ]


def _only_waits(before: SlotRecord, slot: SlotRecord, told: datetime, now: datetime) -> bool:
    """Whether its slot has come, but something that the plan does not know of is not free yet, such as a port or a GPU
    whose box is being removed.

    The plan then moves the slot to the time of each pass. As long as the promise can still be kept, that is not worth a
    write at each pass.
    """
    return slot.start > before.start and told > now
