"""The planner's input and output: the state of one pool at one time, and the plan for it.

Plain values. The planner counts units and knows neither users nor records; `control/pools.py` makes the state of a
pool from records, nodes and boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class PoolNode:
    """One node of the pool.

    Attributes:
        name: unique.
        units: GPUs, or shares of a node without GPUs.
        zone: all nodes of a gang are in one zone.
        labels: key to value.
        arch: of its processors.
        profiling: accepts only profiling requests, one at a time.
        usable: False if the node accepts nothing new (cordoned, or not ready); allocations on it still count.
        available_from: None for a node that exists; else the time by which an autoscaler could add it.
    """

    name: str
    units: int
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    arch: str = ""
    profiling: bool = False
    usable: bool = True
    available_from: datetime | None = None


class Where(NamedTuple):
    """Which nodes may serve a request: the key of a set of nodes, with which the planner finds their open windows.

    Attributes:
        labels: that the node must have, by key.
        arch: of its processors; empty: any.
        zone: of the node; empty: any.
        profiling: a node for profiling. Such nodes serve nothing else, and others serve no profiling.
    """

    labels: tuple[tuple[str, str], ...] = ()
    arch: str = ""
    zone: str = ""
    profiling: bool = False

    def allows(self, node: PoolNode) -> bool:
        """Whether the node may serve the request, regardless of its size."""
        return (
            node.profiling == self.profiling
            and self.arch in ("", node.arch)
            and self.zone in ("", node.zone)
            and all(node.labels.get(key) == value for key, value in self.labels)
        )


ANYWHERE = Where()
"""Every node that is not for profiling."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Units of a node that are in use.

    Attributes:
        node: by name; a node that is not in the pool is ignored.
        units: on that node.
        until: when they are free at the latest; None if that is unknown, so the planner never counts on them.
    """

    node: str
    units: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned start.

    Attributes:
        start: of the slot.
        nodes: by name, in rank order.
        estimate: a node of the slot does not exist yet. Nothing is taken for an estimate, and it promises nothing.
    """

    start: datetime
    nodes: tuple[str, ...]
    estimate: bool = False


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One queued request.

    Attributes:
        id: unique.
        units: on each node.
        nodes: how many; more than one is a gang of whole nodes.
        duration: of the whole slot, with the limits on preparing and stopping.
        order: place in line; smaller is earlier.
        slot: from an earlier plan; None if it has none yet.
        not_before: earliest start for a reason other than nodes, such as a disk that is in use; None for no bound.
        where: which nodes may serve it.
        promised: the promise that the user has; None if there is none. Infeasible slots are replaced in this order.
    """

    id: str
    units: int
    nodes: int
    duration: timedelta
    order: int
    slot: Slot | None = None
    not_before: datetime | None = None
    where: Where = ANYWHERE
    promised: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool at one time.

    Attributes:
        now: the time.
        nodes: existing nodes, and those that could be added.
        allocations: of units that are in use, in any order.
        queued: every queued request, in any order.
    """

    now: datetime
    nodes: Sequence[PoolNode]
    allocations: Sequence[Allocation]
    queued: Sequence[QueuedRequest]


@dataclass(frozen=True, slots=True)
class PoolChange:
    """How a pool differs from the state that its plan was made from. Its nodes are the same.

    Attributes:
        now: the time; every allocation that there is now ends later.
        freed: allocations that are not there any more.
        taken: allocations that were not there.
        gone: ids of requests that are not queued any more: they were cancelled, or placed in their slot.
        bounded: requests whose `not_before` is another one; nothing else of them is.
        arrived: requests that were not queued, without a held slot.
    """

    now: datetime
    freed: Sequence[Allocation] = ()
    taken: Sequence[Allocation] = ()
    gone: Sequence[str] = ()
    bounded: Sequence[QueuedRequest] = ()
    arrived: Sequence[QueuedRequest] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing but the time is different."""
        return not (self.freed or self.taken or self.gone or self.bounded or self.arrived)


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of a pool.

    Attributes:
        slots: request id to slot, for every request that some node can serve at a known time.
        impossible: ids of requests that no node could serve, now or later.
        replanned: ids of requests whose slot from an earlier plan had become infeasible.
    """

    slots: Mapping[str, Slot]
    impossible: frozenset[str]
    replanned: frozenset[str]


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """When a request could start, and how long it could last.

    Attributes:
        start: None if the units are never free.
        until: the end of the slot at the latest; None if there is no limit.
    """

    start: datetime | None
    until: datetime | None = None


def could_ever_serve(nodes: Iterable[PoolNode], units: int, count: int = 1, where: Where = ANYWHERE) -> bool:
    """Whether the nodes could serve such a request if all of them were free and usable.

    A request that waits for busy or cordoned nodes can be served; one that is larger than every node cannot.
    """
    zones: dict[str, int] = {}
    for node in nodes:
        # A gang takes whole nodes, so their size must match exactly.
        if where.allows(node) and (node.units >= units if count == 1 else node.units == units):
            zones[node.zone] = zones.get(node.zone, 0) + 1
    return any(fitting >= count for fitting in zones.values())
