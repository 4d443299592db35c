"""The planner's input: the state of one pool, made from records, nodes and boxes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from odc.control.eligibility import pool_node, where_of
from odc.domain.box import BoxSeen
from odc.domain.disk import Disk
from odc.domain.limits import Limits
from odc.domain.node import Node
from odc.domain.pool_document import PoolDocument
from odc.domain.promise import held_until, next_guess, slot_span
from odc.domain.records import Stored
from odc.domain.reservation import Reservation, SlotRecord, State
from odc.scheduling import Allocation, PoolState, QueuedRequest, Slot


def pool_state(
    gpu_type: str,
    stored: Stored,
    nodes: Iterable[Node],
    quarantined: Iterable[BoxSeen],
    limits: Limits,
    now: datetime,
) -> PoolState:
    """Return the state of one pool at one time.

    Args:
        gpu_type: the pool.
        stored: every live reservation, the disks that a pass needs, and the plan so far.
        nodes: every node; GPUs that other programs use, or that are unusable, are allocated with an unknown end.
        quarantined: boxes without a record; their GPUs are allocated with an unknown end.
        limits: the operator's.
        now: the time.
    """
    ours = [record for record in stored.reservations if record.spec.gpu_type == gpu_type]
    by_id = {record.id: record for record in stored.reservations}
    pool_nodes = [node for node in nodes if node.gpu_type == gpu_type]
    plan = stored.plans.get(gpu_type, PoolDocument())
    queued = []
    for record in ours:
        if record.state is State.QUEUED:
            request = request_of(record, stored.disks.get(record.disk_id or ""), by_id, limits, now)
            slot = held_slot(record, plan)
            held = Slot(start=slot.start, nodes=slot.nodes, estimate=slot.estimate) if slot else None
            queued.append(replace(request, slot=held, promised=record.ready_by))
    return PoolState(
        now=now,
        nodes=[pool_node(node) for node in pool_nodes],
        allocations=[
            *(allocation for record in ours for allocation in allocations_of(record, limits, now)),
            *other_allocations(gpu_type, ours, pool_nodes, quarantined),
        ],
        queued=queued,
    )


def allocations_of(record: Reservation, limits: Limits, now: datetime) -> tuple[Allocation, ...]:
    """Return what a live reservation has in use."""
    if not record.occupies:
        return ()
    until = held_until(record, limits, now)
    return tuple(Allocation(node=place.node, units=record.spec.units, until=until) for place in record.places)


def other_allocations(
    gpu_type: str, records: Iterable[Reservation], nodes: Iterable[Node], quarantined: Iterable[BoxSeen]
) -> list[Allocation]:
    """Return what is in use in a pool by no reservation. Records and nodes are those of the pool."""
    use = other_use(records, nodes, [box for box in quarantined if box.gpu_type == gpu_type])
    return [
        Allocation(node=name, units=units, until=None)
        for counts in (use.quarantined, use.lacking)
        for name, units in counts.items()
    ]


class OtherUse(NamedTuple):
    """Units that are in use by no reservation. Key of both: node; nodes without any are left out.

    Attributes:
        quarantined: those that boxes without a record have.
        lacking: further ones that others hold or that cannot be lent.
    """

    quarantined: Mapping[str, int]
    lacking: Mapping[str, int]


def other_use(records: Iterable[Reservation], nodes: Iterable[Node], quarantined: Sequence[BoxSeen]) -> OtherUse:
    """Return what is in use in a pool by no reservation. A GPU counts once: as a reservation's, else as a quarantined
    box's, else as lacking.

    Args:
        records: the reservations of the pool.
        nodes: of the pool.
        quarantined: the boxes of the pool without a record.
    """
    lacking = [node for node in nodes if node.not_lent()]
    if not lacking and not quarantined:
        return OtherUse({}, {})
    ours = {gpu for record in records if record.occupies for place in record.places for gpu in place.gpus}
    strays: Counter[str] = Counter()
    for box in quarantined:
        strays[box.node] += max(box.units - len(ours.intersection(box.gpus)), 0)
        ours.update(box.gpus)
    return OtherUse(
        quarantined={name: units for name, units in strays.items() if units},
        lacking={node.name: units for node in lacking if (units := node.not_lent(ours))},
    )


def held_slot(record: Reservation, plan: PoolDocument) -> SlotRecord | None:
    """Return the slot that a queued reservation has from an earlier plan, if any.

    Version 0.1.0 kept it in the reservation. It counts until a plan of this version has one.
    """
    return plan.slots.get(record.order) or record.slot


def request_of(
    record: Reservation, disk: Disk | None, by_id: Mapping[str, Reservation], limits: Limits, now: datetime
) -> QueuedRequest:
    """Return what a queued reservation needs, without its slot and its promise.

    Args:
        record: the reservation.
        disk: its disk, if it has one.
        by_id: at least every live reservation.
        limits: the operator's.
        now: the time.
    """
    return QueuedRequest(
        id=record.id,
        units=record.spec.units,
        nodes=record.spec.nodes,
        duration=slot_span(record.spec.length, limits),
        order=record.order,
        not_before=_disk_free(record, disk, by_id, limits, now),
        where=where_of(record.spec.needs, disk),
    )


def _disk_free(
    record: Reservation, disk: Disk | None, by_id: Mapping[str, Reservation], limits: Limits, now: datetime
) -> datetime | None:
    """When the disk's holder releases it at the latest; None if the reservation has it already, or needs none."""
    if disk is None or disk.holder in (None, record.id):
        return None
    holder = by_id.get(disk.holder or "")
    if holder is None:
        # The record of the holder cannot be read, so the end is unknown. A guess that starts from now would differ in
        # every pass, and postpone the promise each time.
        return next_guess(record.created_at, limits.stop, now)
    return held_until(holder, limits, now)
