"""Why a promise could not be kept, in words for its owner. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from odc.control.eligibility import what_is_missing, where_of
from odc.control.observation import Observation
from odc.domain.limits import Limits
from odc.domain.node import Node
from odc.domain.promise import is_overdue
from odc.domain.reservation import Reservation, SlotRecord


def cause_of_delay(record: Reservation, slot: SlotRecord | None, seen: Observation, limits: Limits) -> str:
    """Return why a promise could not be kept: the most specific known cause.

    Args:
        record: a queued reservation that has a promise.
        slot: that it had until now; None after a requeue.
        seen: the observation.
        limits: the operator's.
    """
    if record.fault is not None:
        return record.fault.message
    if slot is None:
        return record.end_text or "it went back to the queue"
    usable = {node.name for node in seen.nodes or () if node.usable}
    lost = [name for name in slot.nodes if name not in usable]
    if lost:
        return f"{', '.join(lost)} takes nothing new"
    nodes = [node for node in seen.nodes or () if node.name in slot.nodes]
    cause = _changed(record, nodes, seen) or foreign_gpus(nodes)
    if cause:
        return cause
    if slot.start < seen.now:
        return "what it waited for was not free when its slot began, or the cloud did not run"
    return (
        _overdue(record, slot, seen, limits)
        or "its GPUs are not free at the planned time, for a reason that ODC does not know"
    )


def _changed(record: Reservation, nodes: Iterable[Node], seen: Observation) -> str:
    """Return which of the nodes cannot serve the reservation as they are now; empty if all can."""
    spec, disk = record.spec, seen.stored.disks.get(record.disk_id or "")
    causes = (what_is_missing(spec.gpu_type, [node], spec.units, 1, where_of(spec.needs, disk)) for node in nodes)
    return next((cause for cause in causes if cause), "")


def _overdue(record: Reservation, slot: SlotRecord, seen: Observation, limits: Limits) -> str:
    """Return what is on the nodes of its slot, or has its disk, for longer than planned; empty if nothing is."""
    disk = seen.stored.disks.get(record.disk_id or "")
    for other in seen.stored.reservations:
        on_nodes = other.occupies and any(place.node in slot.nodes for place in other.places)
        has_disk = disk is not None and disk.holder == other.id != record.id
        if (on_nodes or has_disk) and is_overdue(other, limits, seen.now):
            return "a reservation before it takes longer than its limit"
    strays = sorted({box.node for box in seen.quarantined if box.node in slot.nodes})
    return f"a box without a reservation is on {', '.join(strays)}" if strays else ""


def foreign_gpus(nodes: Iterable[Node]) -> str:
    """Return the GPUs of the nodes that cannot be lent, as a cause: broken ones, or those that others hold;
    empty if there are none.
    """
    nodes = tuple(nodes)
    broken = [f"{len(node.unusable)} GPUs of {node.name} cannot be used" for node in nodes if node.unusable]
    if broken:
        return ", ".join(broken)
    names = sorted({name for node in nodes for name in node.held_by_others.values()})
    if names:
        return f"GPUs are in use by containers that are not ODC's: {', '.join(names)}"
    held = [f"{node.held_units} units of {node.name}" for node in nodes if node.held_units]
    return f"{', '.join(held)} are in use by others" if held else ""
