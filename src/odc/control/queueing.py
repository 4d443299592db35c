"""The next step of the queued reservations of one pool: give promises, keep them, and place reservations whose slot has
begun.

Pure. The planner has made a slot for each reservation from numbers of units. This module selects the actual GPUs, by
identity. That may fail although the plan is right, for example if a container that is not ours uses a
GPU. Then the reservation waits, and does not use up an attempt for a cause that its owner cannot change.

Everything that changes a promise or a place is fenced by the pool's version, as the plan is (`pool_plans`). A promise
moves earlier with an `IMPROVED` event, and later only with a `POSTPONED` event that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import NamedTuple

from msgspec.structs import replace

from odc.control.context import Policy
from odc.control.delays import cause_of_delay, foreign_gpus
from odc.control.eligibility import what_is_missing, where_of
from odc.control.observation import Observation
from odc.control.pool_plans import PlannedPool
from odc.control.steps import Step, Task, TaskName
from odc.domain import lifecycle
from odc.domain.box import BoxName, BoxSeen
from odc.domain.event_kind import EventKind
from odc.domain.limits import Limits
from odc.domain.node import Node, choose_gpus
from odc.domain.promise import TELL_IMPROVEMENT, ready_by
from odc.domain.reservation import Fault, Place, Reservation, SlotRecord
from odc.domain.resources import share_of
from odc.domain.status import TroubleKind

MAX_TOLD = 40
"""Reservations of one pool whose owners one pass tells something, besides those that are placed."""


class FreeResources:
    """The resources that are still free for placements of this pass: the nodes' GPUs by identity, or their units where
    there are no identities, and the ranges of host ids.

    One object for all pools of a pass, because they share the ranges. `take` removes the resources that it returns, so
    that two placements of one pass cannot get the same.
    """

    def __init__(self, seen: Observation, policy: Policy) -> None:
        """Remove the occupied resources.

        Args:
            seen: with records, nodes and boxes; every existing box occupies its GPUs, regardless of its record.
            policy: gives the ranges of host ids.
        """
        boxes: tuple[BoxSeen, ...] = seen.boxes or ()
        occupying = [record for record in seen.all_placed if record.occupies]
        # By identity and not by node: a GPU is the same when it is seen on a node of another name. Each source counts:
        # a record whose box is not made yet, a box whose record is lost, and GPUs that are used by others or broken.
        taken = {gpu for record in occupying for place in record.places for gpu in place.gpus}
        taken |= {gpu for box in boxes for gpu in box.gpus}
        taken |= {gpu for node in seen.nodes or () for gpu in (*node.held_by_others, *node.unusable)}
        self._nodes: Mapping[str, Node] = {node.name: node for node in seen.nodes or ()}
        self._gpus = {node.name: [gpu for gpu in node.gpus if gpu not in taken] for node in self._nodes.values()}
        in_use = _units_in_use(occupying, boxes)
        self._units = {
            node.name: node.units - in_use.get(node.name, 0) - node.not_lent() for node in self._nodes.values()
        }
        ranges = {place.id_base for record in occupying for place in record.places} | {box.id_base for box in boxes}
        self._shared_ids = not policy.ids.separate
        self._ids = [first for first in policy.ids.all() if first not in ranges]

    def take(self, record: Reservation, nodes: tuple[str, ...]) -> tuple[Place, ...] | None:
        """Take the resources of the reservation on these nodes; None, and nothing is taken, if they are not free."""
        if self.shortage(nodes) or any(not self._fits(record, name) for name in nodes):
            return None
        # The boxes of a gang share a home, whose files are seen in one range.
        id_base = 0 if self._shared_ids else self._ids.pop(0)
        return tuple(self._take_one(record, name, id_base) for name in nodes)

    def shortage(self, nodes: tuple[str, ...]) -> str:
        """Return which resource other than GPUs is missing for a reservation on these nodes; empty if none is."""
        if not self._ids and not self._shared_ids:
            return "all ranges of host ids are in use"
        return next((self._nodes[name].full for name in nodes if name in self._nodes and self._nodes[name].full), "")

    def _fits(self, record: Reservation, name: str) -> bool:
        node = self._nodes.get(name)
        if node is None or not node.usable:
            return False
        if node.gpus:
            # Which GPUs those are that others hold is not known; so many must be left.
            return len(self._gpus[name]) - node.held_units >= record.spec.gpus
        return self._units[name] >= record.spec.units

    def _take_one(self, record: Reservation, name: str, id_base: int) -> Place:
        node = self._nodes[name]
        # Of a node that only counts its GPUs, the cluster decides which of them the box gets.
        gpus = choose_gpus(self._gpus[name], node.islands, record.spec.gpus) if node.gpus else ()
        self._gpus[name] = [gpu for gpu in self._gpus[name] if gpu not in gpus]
        self._units[name] -= record.spec.units
        return Place(
            node=name,
            gpus=gpus,
            # Frozen: later settings change nothing for a box that runs.
            resources=share_of(node.allocatable, record.spec.units, node.units),
            address=node.address,
            simulated=node.simulated,
            id_base=id_base,
        )


def _units_in_use(occupying: Iterable[Reservation], boxes: Iterable[BoxSeen]) -> dict[str, int]:
    """Return the number of units in use by node: those of the records, and of boxes that no such record names."""
    units: dict[str, int] = {}
    of_records = set()
    for record in occupying:
        for rank, place in enumerate(record.places):
            units[place.node] = units.get(place.node, 0) + record.spec.units
            of_records.add(BoxName(record.id, record.attempt, rank))
    for box in boxes:
        if box.name not in of_records:
            units[box.node] = units.get(box.node, 0) + box.units
    return units


def advance_queue(
    gpu_type: str, planned: PlannedPool, free: Callable[[], FreeResources], seen: Observation, policy: Policy
) -> list[Step]:
    """Return the steps of one pool's queue: placements first, then what its owners are told.

    Args:
        gpu_type: the pool.
        planned: the slots of this pool, made from this observation.
        free: returns the free resources of this pass; placements take from them.
        seen: the observation.
        policy: the operator's.
    """
    # Many requests of a pool need the same.
    missing = cache(lambda *wanted: what_is_missing(gpu_type, seen.nodes or (), *wanted))
    placed: list[Step] = []
    told: list[Step] = []
    for record in planned.news:
        slot = planned.slots.get(record.order)
        if slot is None:
            where = where_of(record.spec.needs, seen.stored.disks.get(record.disk_id or ""))
            step = _tell_no_slot(record, missing(record.spec.units, record.spec.nodes, where), seen)
        else:
            obstacle = _obstacle(record, slot, free, seen, policy)
            step = None if obstacle else _place(record, slot, planned, free, seen, policy)
            if step is not None:
                placed.append(step)
                continue
            step = _tell_slot(record, planned, seen, policy) or _tell_obstacle(record, obstacle, seen)
        if step is not None:
            told.append(step)
    # What is new for its owner comes before what is only better. The rest is told in the next passes: the plan has it.
    told.sort(key=lambda step: any(event.kind is EventKind.IMPROVED for event in step.events))
    return [*placed, *told[:MAX_TOLD]]


class _Obstacle(NamedTuple):
    kind: TroubleKind
    text: str


def _tell_no_slot(record: Reservation, missing: str, seen: Observation) -> Step | None:
    """Withdraw the promise, since no node can serve it now; it waits for a node to come back, or for another one.

    Args:
        record: a queued reservation.
        missing: why no node that is there could ever serve it; empty if some could.
        seen: the observation.
    """
    text = f"{missing}; it waits until one does, or is cancelled"
    impossible = _Obstacle(TroubleKind.NO_NODE, text) if missing else None
    if record.ready_by is None:
        # Said already, or never promised.
        return _tell_obstacle(record, impossible, seen)
    fault = _as_fault(impossible, seen) if impossible else record.fault
    withdrawn = replace(record, slot=None, ready_by=None, postponements=record.postponements + 1, fault=fault)
    step = Step(record=withdrawn, fenced=True)
    if impossible:
        step.add_event(record, seen.now, EventKind.POSTPONED, impossible.text)
        return step
    foreign = foreign_gpus(node for node in seen.nodes or () if node.gpu_type == record.spec.gpu_type)
    why = f"{foreign}; it waits until they are free" if foreign else "it waits for one to come back"
    step.add_event(record, seen.now, EventKind.POSTPONED, f"no node can serve it now; {why}")
    return step


def _obstacle(
    record: Reservation, slot: SlotRecord, free: Callable[[], FreeResources], seen: Observation, policy: Policy
) -> _Obstacle | None:
    """Return why a reservation whose slot has begun cannot start although its GPUs may be free; None if it can."""
    if slot.estimate or slot.start > seen.now or not _disk_is_ours(record, seen):
        return None
    if seen.host.blocked:
        return _Obstacle(TroubleKind.HOST, seen.host.blocked)
    missing = seen.host.missing_image
    if missing and (record.spec.image or policy.image) == missing:
        return _Obstacle(TroubleKind.IMAGE, f"the image {missing} of boxes is gone; the operator builds it")
    shortage = free().shortage(slot.nodes)
    return _Obstacle(TroubleKind.PORTS, shortage) if shortage else None


def _tell_obstacle(record: Reservation, obstacle: _Obstacle | None, seen: Observation) -> Step | None:
    """Show the obstacle as the reservation's fault, and clear it when it is gone."""
    if obstacle == (_Obstacle(record.fault.kind, record.fault.message) if record.fault else None):
        return None
    if obstacle is None:
        return Step(record=replace(record, fault=None))
    step = Step(record=replace(record, fault=_as_fault(obstacle, seen)))
    step.add_event(record, seen.now, EventKind.WAITING, obstacle.text)
    return step


def _as_fault(obstacle: _Obstacle, seen: Observation) -> Fault:
    # No backoff: every pass checks whether the obstacle is gone.
    return Fault(kind=obstacle.kind, message=obstacle.text, count=1, since=seen.now, next_try=seen.now)


def _place(
    record: Reservation,
    slot: SlotRecord,
    planned: PlannedPool,
    free: Callable[[], FreeResources],
    seen: Observation,
    policy: Policy,
) -> Step | None:
    """Place a reservation whose slot has begun; None if it is too early, or if a resource is not free."""
    # An estimate is for a node that does not exist yet. A disk may still be at the reservation before this one.
    if slot.estimate or slot.start > seen.now or not _disk_is_ours(record, seen):
        return None
    places = free().take(record, slot.nodes)
    if places is None:
        return None
    step = Step(fenced=True)
    # A slot that starts late, as after a time in which the daemon did not run, moves the promise before it is placed.
    promised = _promised(record, slot, planned, step, seen, policy.limits)
    placed = lifecycle.apply(
        step.record or record, lifecycle.Placed(at=seen.now, slot=slot, ready_by=promised, places=places)
    )
    step.record = placed
    step.tasks.append(Task(TaskName.PREPARE, placed))
    gpus = f" ({_counted(record.spec.gpus)})" if record.spec.gpus else ""
    where = ", ".join(place.node + gpus for place in places)
    step.add_event(record, seen.now, EventKind.PLACED, f"placed on {where}; SSH answers at the latest", promised)
    return step


def _counted(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"


def _promised(
    record: Reservation, slot: SlotRecord, planned: PlannedPool, step: Step, seen: Observation, limits: Limits
) -> datetime:
    """Return the new promise. If it is later than the old one, add the postponement and its reason to the step."""
    old, new = record.ready_by, ready_by(slot.start, limits)
    if old is None or new <= old:
        return new
    if seen.frozen:
        # The clock may be wrong, and the slot with it. The user keeps the promise until that is known.
        return old
    step.record = replace(record, postponements=record.postponements + 1)
    before = planned.document.slots.get(record.order, slot)
    cause = planned.document.causes.get(record.order) or cause_of_delay(record, before, seen, limits)
    step.add_event(record, seen.now, EventKind.POSTPONED, f"{cause}; SSH answers at the latest", new)
    return new


def _disk_is_ours(record: Reservation, seen: Observation) -> bool:
    if record.disk_id is None:
        return True
    disk = seen.stored.disks.get(record.disk_id)
    return disk is None or disk.holder == record.id


def _tell_slot(record: Reservation, planned: PlannedPool, seen: Observation, policy: Policy) -> Step | None:
    """Write a promise that is new or has moved, with an event.

    The plan has every slot; the record has what its owner was told. An improvement of less than `TELL_IMPROVEMENT` is
    not told: the promise is the latest time, and many short ones would only be noise. While the clock cannot be
    trusted, no promise is made or moved.
    """
    slot = planned.document.slots.get(record.order)
    if slot is None or seen.frozen:
        return None
    if slot.estimate:
        if slot == record.slot:
            return None
        # The time to add a node is unknown, so there is no promise.
        step = Step(record=replace(record, slot=slot, ready_by=None), fenced=True)
        step.add_event(
            record, seen.now, EventKind.ESTIMATED, "needs a node that does not exist yet; it may start", slot.start
        )
        return step
    old, new = record.ready_by, ready_by(slot.start, policy.limits)
    if old is not None and old - TELL_IMPROVEMENT < new <= old:
        return None
    step = Step(fenced=True)
    promised = _promised(record, slot, planned, step, seen, policy.limits)
    if old is None:
        step.add_event(record, seen.now, EventKind.PROMISED, "SSH answers at the latest", promised)
    elif promised < old:
        step.add_event(
            record, seen.now, EventKind.IMPROVED, "something ended early; SSH answers at the latest", promised
        )
    step.record = replace(step.record or record, slot=None, ready_by=promised)
    return step
