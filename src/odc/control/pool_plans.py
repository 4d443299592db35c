"""Step 2 of a pass: the plan of every pool with a queue, as a document that is stored with the pool's version. Pure.

A pool is planned only if its picture has changed: its nodes, what is allocated on them, and its queue. Its digest is
stored with the plan, so another process does not plan again either. The plan of an unchanged picture is the stored one:
time alone changes nothing, unless a slot has been due for so long that the planner has to move it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from odc.control.delays import cause_of_delay
from odc.control.observation import Observation, quarantined
from odc.control.pools import held_slot, pool_state
from odc.domain.limits import Limits
from odc.domain.pool_document import PoolDocument
from odc.domain.promise import ready_by
from odc.domain.reservation import Reservation, SlotRecord, State
from odc.scheduling import START_GRACE, Plan, PoolState, plan_pool


@dataclass(frozen=True, slots=True)
class PlannedPool:
    """One pool's plan in this pass.

    Attributes:
        slots: by place in line; a reservation whose slot has come may be placed in it.
        document: to be stored. Its slots are those above, except for reservations that only wait for something that the
            plan does not know: it keeps when their slots began, which is what they were promised.
        changed: whether the document differs from the stored one.
    """

    slots: Mapping[int, SlotRecord]
    document: PoolDocument = field(default_factory=PoolDocument)
    changed: bool = False


def plan_pools(seen: Observation, limits: Limits) -> dict[str, PlannedPool]:
    """Return the plan of every pool with a queue, by GPU type. Empty if the cluster did not answer."""
    if seen.nodes is None:
        return {}
    queues: dict[str, list[Reservation]] = {}
    for record in seen.stored.reservations:
        if record.state is State.QUEUED:
            queues.setdefault(record.spec.gpu_type, []).append(record)
    strays = quarantined(seen)
    planned = {}
    for gpu_type, queue in sorted(queues.items()):
        picture = pool_state(gpu_type, seen.stored, seen.nodes, strays, limits, seen.now)
        planned[gpu_type] = _plan(picture, queue, seen, limits)
    return planned


def _plan(picture: PoolState, queue: list[Reservation], seen: Observation, limits: Limits) -> PlannedPool:
    stored = _stored_plan(queue, seen)
    digest = picture_digest(picture)
    missed = seen.now - START_GRACE
    # The planner moves slots that nothing has started in time.
    if stored.picture == digest and all(slot.start >= missed for slot in stored.slots.values()):
        return PlannedPool(stored.slots, stored)
    plan = plan_pool(picture)
    slots = {
        record.order: SlotRecord(start=slot.start, nodes=slot.nodes, estimate=slot.estimate)
        for record in queue
        if (slot := plan.slots.get(record.id)) is not None
    }
    if seen.frozen:
        # Made with a clock that may be wrong, so it is not stored.
        return PlannedPool(slots, stored)
    document = _document(digest, slots, queue, plan, seen, limits)
    return PlannedPool(slots, document, changed=document != stored)


def _stored_plan(queue: list[Reservation], seen: Observation) -> PoolDocument:
    return seen.stored.plans.get(queue[0].spec.gpu_type, PoolDocument())


def _document(
    digest: str,
    slots: Mapping[int, SlotRecord],
    queue: list[Reservation],
    plan: Plan,
    seen: Observation,
    limits: Limits,
) -> PoolDocument:
    """The plan as it is stored, with the cause of each promise that moves later."""
    stored = _stored_plan(queue, seen)
    kept = dict(slots)
    causes = {}
    for record in queue:
        slot, told = slots.get(record.order), record.ready_by
        if slot is None or slot.estimate or told is None or ready_by(slot.start, limits) <= told:
            continue
        before = held_slot(record, stored)
        if before is not None and record.id not in plan.replanned and _only_waits(before, slot, told, seen.now):
            kept[record.order] = before
            continue
        # From the slot that it had: once the new plan is stored, nothing else says why it had to change.
        causes[record.order] = stored.causes.get(record.order) or cause_of_delay(record, before, seen, limits)
    return PoolDocument(picture=digest, slots=kept, causes=causes)


def _only_waits(before: SlotRecord, slot: SlotRecord, told: datetime, now: datetime) -> bool:
    """Whether its slot has come, but something that the plan does not know of is not free yet, such as a port or a GPU
    whose box is being removed.

    The plan then moves the slot to the time of each pass. As long as the promise can still be kept, that is not worth a
    write at each pass.
    """
    return slot.start > before.start and told > now


def picture_digest(picture: PoolState) -> str:
    """Return a digest of what a plan is made from, except for the time and the slots of the plan before.

    Cost: linear in the picture.
    """
    nodes = [
        (n.name, n.units, n.zone, sorted(n.labels.items()), n.arch, n.profiling, n.usable, n.available_from)
        for n in picture.nodes
    ]
    allocations = [(a.node, a.units, a.until) for a in picture.allocations]
    queued = [(q.order, q.units, q.nodes, q.duration, q.not_before, q.where) for q in picture.queued]
    body = msgspec.msgpack.encode((nodes, allocations, queued))
    return hashlib.blake2b(body, digest_size=16).hexdigest()
