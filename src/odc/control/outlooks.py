"""Makes the outlook of every pool in a pass. Pure, except that the planner makes a plan when it is asked for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from odc.control.context import Policy
from odc.control.observation import Observation
from odc.control.pool_plans import PlannedPool
from odc.control.pools import other_use
from odc.control.reserving import counts_on
from odc.domain.box import BoxSeen
from odc.domain.node import Node
from odc.domain.outlook import NodeUse, Opening, Outlook, QueuedFirst
from odc.domain.promise import ready_by
from odc.domain.reservation import Reservation
from odc.scheduling import PoolPlan


def make_outlooks(
    seen: Observation, plans: Mapping[str, PlannedPool], before: Mapping[str, Outlook], policy: Policy
) -> dict[str, Outlook]:
    """Return the outlook of every pool that has nodes or live reservations, by GPU type.

    While the cluster does not answer, they stay as they are: what is free is not known.

    Args:
        seen: the observation.
        plans: of this pass.
        before: the stored ones; one whose picture is the same stays.
        policy: the operator's.
    """
    if seen.nodes is None:
        return dict(before)
    nodes: dict[str, list[Node]] = {}
    for node in seen.nodes:
        nodes.setdefault(node.gpu_type, []).append(node)
    strays: dict[str, list[BoxSeen]] = {}
    for box in seen.quarantined:
        strays.setdefault(box.gpu_type, []).append(box)
    outlooks = {}
    for name in sorted(nodes.keys() | seen.queued.keys() | seen.placed.keys()):
        planned, stored = plans.get(name), before.get(name)
        pool = _Pool(name, nodes.get(name, ()), strays.get(name, ()), seen, policy)
        if planned is not None and stored is not None and pool.still_is(stored, planned):
            outlooks[name] = stored
        else:
            outlooks[name] = pool.outlook(planned)
    return outlooks


class _Pool:
    """One pool in this pass."""

    def __init__(
        self, gpu_type: str, nodes: Sequence[Node], strays: Sequence[BoxSeen], seen: Observation, policy: Policy
    ) -> None:
        self._nodes = nodes
        self._strays = strays
        self._now = seen.now
        self._limits = policy.limits
        self._queue = seen.queued.get(gpu_type, ())
        self._occupying = [record for record in seen.placed.get(gpu_type, ()) if record.occupies]
        self._has_gpus = policy.catalog.has_gpus(gpu_type)
        self._use = self._node_use()

    def still_is(self, before: Outlook, planned: PlannedPool) -> bool:
        """Whether nothing has changed. A start that has come without any change has been missed."""
        return (
            before.picture == planned.picture
            and not planned.changed
            # The picture does not tell units that boxes without a record have from those that others hold.
            and before.nodes == self._use
            and all(one.is_open or one.start is None or one.start > self._now for one in before.openings)
        )

    def outlook(self, planned: PlannedPool | None) -> Outlook:
        """The outlook with this plan; without one if the pool has no nodes and no queue."""
        return Outlook(
            picture=planned.picture if planned else "",
            has_gpus=self._has_gpus,
            live=len(self._occupying),
            queue=tuple(record.order for record in self._queue),
            first=self._first(self._queue[0], planned) if self._queue else None,
            openings=self._openings(planned.plan()) if planned and self._nodes else (),
            nodes=self._use,
        )

    def _node_use(self) -> dict[str, NodeUse]:
        """What is in use, by node; nodes of which nothing is are left out."""
        held: Counter[str] = Counter()
        boxes: Counter[str] = Counter(box.node for box in self._strays)
        for record in self._occupying:
            for place in record.places:
                held[place.node] += record.spec.units
                boxes[place.node] += 1
        strays, lacking = other_use(self._occupying, self._nodes, self._strays)
        return {
            name: NodeUse(held[name] + strays.get(name, 0), boxes[name], lacking.get(name, 0), strays.get(name, 0))
            for name in boxes.keys() | lacking.keys()
        }

    def _openings(self, plan: PoolPlan) -> tuple[Opening, ...]:
        openings = []
        for count in counts_on(max(node.units for node in self._nodes)) if self._has_gpus else (1,):
            window = plan.free_for(count)
            is_open = window.start is not None and window.start <= self._now
            start = None if is_open else window.start
            gpus = count if self._has_gpus else 0
            openings.append(Opening(gpus=gpus, is_open=is_open, start=start, until=window.until))
        return tuple(openings)

    def _first(self, record: Reservation, planned: PlannedPool | None) -> QueuedFirst:
        slot = planned.slots.get(record.order) if planned else None
        promised = ready_by(slot.start, self._limits) if slot is not None and not slot.estimate else None
        last = _last_before(promised, self._occupying)
        gpus = record.spec.gpus * record.spec.nodes
        return QueuedFirst(user=record.user, gpus=gpus, waits_for=last.id if last else "")


def _last_before(promised: datetime | None, occupying: Iterable[Reservation]) -> Reservation | None:
    """Return the occupant that ends last before the promise, since it determines the promise; without a promise, the
    one that ends first.
    """
    there = list(occupying)
    ending = [other for other in there if promised and other.expires_at and other.expires_at <= promised]
    return max(ending, key=_end_of) if ending else min(there, key=_end_of, default=None)


def _end_of(record: Reservation) -> tuple[bool, datetime]:
    return record.expires_at is None, record.expires_at or record.created_at
