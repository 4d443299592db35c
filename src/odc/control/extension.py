"""How long a reservation may be extended without breaking a promise. Pure.

The answer comes from the stored plan of its pool and the records, so nothing is planned for it. The writer of an
extension commits with the pool's version, as everything that takes units: then the plan is still the one that was read.
"""

from __future__ import annotations

from datetime import datetime

from odc.control.context import ClusterStatus
from odc.control.eligibility import pool_node
from odc.control.pools import allocations_of, other_allocations
from odc.domain.limits import Limits
from odc.domain.pool_document import PoolDocument
from odc.domain.promise import held_until, slot_span
from odc.domain.records import Stored
from odc.domain.reservation import Reservation, State
from odc.scheduling import Claim, latest_end


def latest_expiry(
    record: Reservation, wanted: datetime, stored: Stored, status: ClusterStatus, limits: Limits, now: datetime
) -> datetime:
    """Return the latest time at which a reservation may expire: not after the wanted one, not before its present one.

    Args:
        record: an active reservation, whose expiry time is known.
        wanted: when it is to expire.
        stored: the records, with the plan of its pool.
        status: the nodes, and boxes without a record.
        limits: the operator's.
        now: the time.

    Returns:
        The present expiry time, too, if one of its nodes is gone or accepts nothing new.

    Cost: a look at each live reservation and at each slot; only those on its nodes are worked with.
    """
    present = record.expires_at or wanted
    pool = {node.name: node for node in status.nodes if node.gpu_type == record.spec.gpu_type}
    if wanted <= present or any(place.node not in pool for place in record.places):
        return present
    claims = _claims(record, stored, status, limits, now)
    current_end, end = held_until(record, limits, now), wanted + limits.stop
    for place in record.places:
        node = pool_node(pool[place.node])
        end = latest_end(node, claims.get(place.node, ()), record.spec.units, current_end, end)
    return max(present, end - limits.stop)


def _claims(
    record: Reservation, stored: Stored, status: ClusterStatus, limits: Limits, now: datetime
) -> dict[str, list[Claim]]:
    """What others have, or will have, on the nodes of the reservation's pool, by node."""
    gpu_type = record.spec.gpu_type
    ours = [other for other in stored.reservations if other.spec.gpu_type == gpu_type]
    nodes = [node for node in status.nodes if node.gpu_type == gpu_type]
    units = {node.name: node.units for node in nodes}
    taken = other_allocations(gpu_type, ours, nodes, status.quarantined)
    taken += [each for other in ours if other.id != record.id for each in allocations_of(other, limits, now)]
    claims: dict[str, list[Claim]] = {}
    for each in taken:
        claims.setdefault(each.node, []).append(Claim(each.units, now, each.until))
    slots = stored.plans.get(gpu_type, PoolDocument()).slots
    for queued in ours:
        slot = slots.get(queued.order) if queued.state is State.QUEUED else None
        if slot is not None and not slot.estimate:
            end = slot.start + slot_span(queued.spec.length, limits)
            for name in slot.nodes:
                # A reservation for profiling is alone on its node.
                size = units.get(name, 0) if queued.spec.needs.profiling else queued.spec.units
                claims.setdefault(name, []).append(Claim(size, slot.start, end))
    return claims
