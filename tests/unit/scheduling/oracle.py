"""A simple reference planner that tries each time at which something changes: slow, and easy to verify by reading."""

from __future__ import annotations

from datetime import datetime, timedelta

from odc.scheduling import PoolNode, PoolState, QueuedRequest


def eligible(node: PoolNode, request: QueuedRequest) -> bool:
    """Whether the node has what the request needs; of a node for profiling, whether it asks for profiling."""
    where = request.where
    if node.profiling != where.profiling:
        return False
    if where.arch and where.arch != node.arch:
        return False
    if where.zone and where.zone != node.zone:
        return False
    return set(where.labels) <= set(node.labels.items())


class Oracle:
    """The taken intervals of each node."""

    def __init__(self, pool: PoolState) -> None:
        self.now = pool.now
        self.nodes = {node.name: node for node in pool.nodes if node.available_from is None}
        self.taken: dict[str, list[tuple[datetime, datetime, int]]] = {name: [] for name in self.nodes}
        for allocation in pool.allocations:
            if allocation.node in self.taken:
                end = allocation.until or datetime.max.replace(tzinfo=self.now.tzinfo)
                self.taken[allocation.node].append((self.now, max(end, self.now), allocation.units))

    def free(self, node: str, start: datetime, end: datetime) -> int:
        """The fewest free units of the node over `[start, end)`."""
        points = [start, *(b for b, _, _ in self.taken[node] if start < b < end)]
        return min(
            self.nodes[node].units - sum(units for b, e, units in self.taken[node] if b <= point < e)
            for point in points
        )

    def earliest(self, request: QueuedRequest) -> datetime | None:
        """The earliest time at which the request fits on enough nodes of one zone."""
        ends = {self.now, *(end for spans in self.taken.values() for _, end, _ in spans)}
        floor = max(self.now, request.not_before or self.now)
        candidates = sorted({floor, *(end for end in ends if end > floor and end.year < 9000)})
        return next((start for start in candidates if self.fits(request, start)), None)

    def fits(self, request: QueuedRequest, start: datetime) -> bool:
        """Whether enough nodes of one zone are free from then on."""
        zones: dict[str, int] = {}
        for name, node in self.nodes.items():
            kind = eligible(node, request) and node.usable
            units = node.units if request.where.profiling else request.units
            size = node.units == request.units if request.nodes > 1 else node.units >= units
            if kind and size and self.free(name, start, start + request.duration) >= units:
                zones[node.zone] = zones.get(node.zone, 0) + 1
        return any(count >= request.nodes for count in zones.values())

    def take(self, nodes: tuple[str, ...], start: datetime, duration: timedelta, units: int) -> None:
        """Record that these units are taken."""
        for node in nodes:
            self.taken[node].append((start, start + duration, units))
