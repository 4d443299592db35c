"""The planner's input: the state of one pool, made from records, nodes and boxes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

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
        stored: every live reservation, the disks that they hold or wait for, and the plan so far.
        nodes: every node; GPUs that other programs use, or that are unusable, are allocated with an unknown end.
        quarantined: boxes without a record; their GPUs are allocated with an unknown end.
        limits: the operator's.
        now: the time.
    """
    ours = [record for record in stored.reservations if record.spec.gpu_type == gpu_type]
    by_id = {record.id: record for record in stored.reservations}
    allocations = [
        Allocation(node=place.node, units=record.spec.units, until=held_until(record, limits, now))
        for record in ours
        if record.occupies
        for place in record.places
    ]
    allocations += [
        Allocation(node=box.node, units=box.units, until=None) for box in quarantined if box.gpu_type == gpu_type
    ]
    pool_nodes = [node for node in nodes if node.gpu_type == gpu_type]
    ours_now = {gpu for record in ours if record.occupies for place in record.places for gpu in place.gpus}
    allocations += [
        Allocation(node=node.name, units=len(foreign), until=None)
        for node in pool_nodes
        # A GPU that a reservation has, too, is counted once.
        if (foreign := (node.held_by_others.keys() | node.unusable.keys()) - ours_now)
    ]
    plan = stored.plans.get(gpu_type, PoolDocument())
    return PoolState(
        now=now,
        nodes=[pool_node(node) for node in pool_nodes],
        allocations=allocations,
        queued=[
            _queued_request(record, plan, stored.disks, limits, _disk_free(record, stored.disks, by_id, limits, now))
            for record in ours
            if record.state is State.QUEUED
        ],
    )


def held_slot(record: Reservation, plan: PoolDocument) -> SlotRecord | None:
    """Return the slot that a queued reservation has from an earlier plan, if any.

    Version 0.1.0 kept it in the reservation. It counts until a plan of this version has one.
    """
    return plan.slots.get(record.order) or record.slot


def _queued_request(
    record: Reservation, plan: PoolDocument, disks: Mapping[str, Disk], limits: Limits, not_before: datetime | None
) -> QueuedRequest:
    slot = held_slot(record, plan)
    return QueuedRequest(
        id=record.id,
        units=record.spec.units,
        nodes=record.spec.nodes,
        duration=slot_span(record.spec.length, limits),
        order=record.order,
        slot=Slot(start=slot.start, nodes=slot.nodes, estimate=slot.estimate) if slot else None,
        not_before=not_before,
        where=where_of(record.spec.needs, disks.get(record.disk_id or "")),
        promised=record.ready_by,
    )


def _disk_free(
    record: Reservation,
    disks: Mapping[str, Disk],
    by_id: Mapping[str, Reservation],
    limits: Limits,
    now: datetime,
) -> datetime | None:
    """When the disk's holder releases it at the latest; None if the reservation has it already, or needs none."""
    disk = disks.get(record.disk_id) if record.disk_id else None
    if disk is None or disk.holder in (None, record.id):
        return None
    holder = by_id.get(disk.holder or "")
    if holder is None:
        # The record of the holder cannot be read, so the end is unknown. A guess that starts from now would differ in
        # every pass, and postpone the promise each time.
        return next_guess(record.created_at, limits.stop, now)
    return held_until(holder, limits, now)
