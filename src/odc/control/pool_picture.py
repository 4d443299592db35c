"""The picture of one pool from pass to pass: what its plan is made from, and how it differs from the one before.

Records that are unchanged are the same objects in two observations, so a pass compares ten thousand of them by
identity and looks only into those that are new. A picture that is made from nothing has the same state and digest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import msgspec

from odc.control.eligibility import pool_node
from odc.control.observation import Observation
from odc.control.pools import allocations_of, held_slot, other_allocations, request_of
from odc.domain.changed_span import ChangedSpan, changed_span
from odc.domain.disk import Disk
from odc.domain.limits import Limits
from odc.domain.node import Node
from odc.domain.pool_document import PoolDocument
from odc.domain.promise import held_until, is_overdue
from odc.domain.reservation import Reservation
from odc.scheduling import Allocation, PoolChange, PoolNode, PoolState, QueuedRequest, Slot

_DIGEST_BYTES = 16
_LIMIT = 1 << (8 * _DIGEST_BYTES)


@dataclass(slots=True)
class _Demand:
    """What one queued reservation needs, as of its record.

    Attributes:
        record: that it was made from.
        disk: that it was made from.
        request: without its slot and promise.
        digest: of the request.
    """

    record: Reservation
    disk: Disk | None
    request: QueuedRequest
    digest: int


class _Held(NamedTuple):
    """What one placed reservation has in use, as of its record; until when, or None if that depends on the time."""

    record: Reservation
    allocations: tuple[Allocation, ...]
    until: datetime | None


class PoolPicture:
    """The nodes of one pool, what is allocated on them, and its queue."""

    def __init__(self, gpu_type: str, limits: Limits) -> None:
        """An empty picture, before the first look."""
        self._gpu_type = gpu_type
        self._limits = limits
        self._seen_nodes: list[Node] = []
        self._nodes: list[PoolNode] = []
        self._allocations: list[Allocation] = []
        self._held: dict[str, _Held] = {}
        self._queue: Sequence[Reservation] = ()
        self._demands: dict[str, _Demand] = {}
        self._with_disks: set[str] = set()
        self._queue_digest = 0
        self._digests = {"nodes": _digest([]), "allocations": _digest([])}

    @property
    def digest(self) -> str:
        """A digest of what a plan is made from, except for the time, the promises and the slots of the plan before."""
        queue = self._queue_digest.to_bytes(_DIGEST_BYTES, "big")
        return _digest((self._digests["nodes"], self._digests["allocations"], queue)).hex()

    def state(self, now: datetime, plan: PoolDocument) -> PoolState:
        """The whole picture for the planner, with the slots of the plan before."""
        return PoolState(
            now=now,
            nodes=self._nodes,
            allocations=self._allocations,
            queued=[
                replace(demand.request, slot=_held(demand.record, plan), promised=demand.record.ready_by)
                for demand in sorted(self._demands.values(), key=lambda each: each.request.order)
            ],
        )

    def order_of(self, request_id: str) -> int:
        """The place in line of a request."""
        return self._demands[request_id].request.order

    def look(self, seen: Observation) -> PoolChange | None:
        """Take over what a pass has observed.

        Args:
            seen: the observation; its nodes are known.

        Returns:
            How the picture differs from the one before; None if it differs in its nodes or in what a request needs.
        """
        same_nodes = self._look_at_nodes(seen.nodes or ())
        placed = seen.placed.get(self._gpu_type, ())
        others = other_allocations(self._gpu_type, placed, self._seen_nodes, seen.quarantined)
        freed, taken = self._replace_allocations([*self._allocated(placed, seen.now), *others])
        queue = seen.queued.get(self._gpu_type, ())
        span = changed_span(self._queue, queue) or ChangedSpan(0, 0, 0)
        new = queue[span.start : span.end_now]
        gone = {record.id for record in self._queue[span.start : span.end_before]} - {record.id for record in new}
        arrived, bounded, same_needs = self._look_at_queue(new, gone, seen)
        self._remove(gone)
        self._queue = queue
        if not same_nodes or not same_needs:
            return None
        return PoolChange(now=seen.now, freed=freed, taken=taken, gone=sorted(gone), bounded=bounded, arrived=arrived)

    def _look_at_nodes(self, nodes: Sequence[Node]) -> bool:
        ours = [node for node in nodes if node.gpu_type == self._gpu_type]
        if ours == self._seen_nodes:
            return True
        before, self._seen_nodes, self._nodes = self._nodes, ours, [pool_node(node) for node in ours]
        if self._nodes == before:
            return True
        self._digests["nodes"] = _digest(
            [
                (n.name, n.units, n.zone, sorted(n.labels.items()), n.arch, n.profiling, n.usable, n.available_from)
                for n in self._nodes
            ]
        )
        return False

    def _allocated(self, placed: Sequence[Reservation], now: datetime) -> Iterator[Allocation]:
        """What the reservations have in use. That of an unchanged one is the same until it is over its limit."""
        known, self._held = self._held, {}
        for record in placed:
            held = known.get(record.id)
            if held is None or held.record is not record or held.until is None or held.until <= now:
                # Over its limit, the end is a guess that depends on the time; the clock may also be set back.
                known_end = None if is_overdue(record, self._limits, now) else held_until(record, self._limits, now)
                held = _Held(record, allocations_of(record, self._limits, now), known_end)
            self._held[record.id] = held
            yield from held.allocations

    def _replace_allocations(self, allocations: list[Allocation]) -> tuple[list[Allocation], list[Allocation]]:
        """Returns the allocations that are gone, and those that are new."""
        if allocations == self._allocations:
            return [], []
        before, after = Counter(self._allocations), Counter(allocations)
        self._allocations = allocations
        self._digests["allocations"] = _digest([(a.node, a.units, a.until) for a in allocations])
        return list((before - after).elements()), list((after - before).elements())

    def _look_at_queue(
        self, new: Sequence[Reservation], gone: Set[str], seen: Observation
    ) -> tuple[list[QueuedRequest], list[QueuedRequest], bool]:
        """Returns the requests that are new, those with another `not_before`, and whether that is all."""
        arrived, bounded, same = [], [], True
        disks, known = seen.stored.disks, self._demands
        # A disk changes without the record.
        others = {key: known[key].record for key in self._with_disks - gone}
        for record in sorted((others | {record.id: record for record in new}).values(), key=lambda each: each.order):
            demand = known.get(record.id)
            disk = disks.get(record.disk_id) if record.disk_id else None
            if demand is not None and demand.record is record:
                if demand.disk is None and disk is None:
                    continue
                if disk is not None and _is_same_disk(record, disk, demand):
                    continue
            request = request_of(record, disk, seen.records, self._limits, seen.now)
            if demand is None:
                # A slot of version 0.1.0 is in the record.
                arrived.append(replace(request, slot=_held(record, PoolDocument())))
            elif request != demand.request:
                bounded.append(request)
                same = same and replace(request, not_before=demand.request.not_before) == demand.request
            self._put(record, disk, request, demand)
        return arrived, bounded, same

    def _put(self, record: Reservation, disk: Disk | None, request: QueuedRequest, before: _Demand | None) -> None:
        digest = before.digest if before is not None and before.request == request else _digest_of(request)
        self._queue_digest = (self._queue_digest + digest - (before.digest if before else 0)) % _LIMIT
        self._demands[record.id] = _Demand(record, disk, request, digest)
        if record.disk_id:
            self._with_disks.add(record.id)

    def _remove(self, gone: Iterable[str]) -> None:
        for request_id in gone:
            self._queue_digest = (self._queue_digest - self._demands.pop(request_id).digest) % _LIMIT
        self._with_disks.difference_update(gone)


def _is_same_disk(record: Reservation, disk: Disk, demand: _Demand) -> bool:
    """Whether the disk is the same, and no other reservation has it: when that one ends may change at any time."""
    return disk.holder in (None, record.id) and (disk is demand.disk or disk == demand.disk)


def _held(record: Reservation, plan: PoolDocument) -> Slot | None:
    slot = held_slot(record, plan)
    return Slot(start=slot.start, nodes=slot.nodes, estimate=slot.estimate) if slot else None


def _digest(value: object) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode(value), digest_size=_DIGEST_BYTES).digest()


def _digest_of(request: QueuedRequest) -> int:
    """A number for each request, whose sum is the digest of a queue: one arrival adds one."""
    r = request
    return int.from_bytes(_digest((r.order, r.units, r.nodes, r.duration, r.not_before, r.where)), "big")
