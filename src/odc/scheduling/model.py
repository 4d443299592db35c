"""What the planner is given, and what it answers: one pool at one time, in the words of the domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class PoolNode:
    """One node of the pool.

    Attributes:
        name: unique.
        units: GPUs, or shares of a node without GPUs.
        zone: gangs lie in one.
        profiling: takes only profiling requests, each alone.
        usable: False (cordoned, silent): takes nothing new; allocations on it still count.
        available_from: an autoscaler could add it by then; None for a node that exists.
    """

    name: str
    units: int
    zone: str = ""
    profiling: bool = False
    usable: bool = True
    available_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Allocation:
    """Units of a node that are held until then; None: nobody knows until when."""

    node: str
    units: int
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned start on these nodes, in rank order. An estimate is no promise: a node does not exist yet."""

    start: datetime
    nodes: tuple[str, ...]
    estimate: bool = False


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One queued request.

    Attributes:
        id: its own.
        units: on each node.
        nodes: more than 1 is a gang of whole nodes.
        duration: the whole span of the slot, limits included.
        order: place in line; smaller is earlier.
        slot: held from earlier passes; None if it has none.
        not_before: earliest start for another cause than nodes, such as its disk.
        profiling: wants a profiling node, alone.
        promised: the promise that was told, for the order of laying anew.
    """

    id: str
    units: int
    nodes: int
    duration: timedelta
    order: int
    slot: Slot | None = None
    not_before: datetime | None = None
    profiling: bool = False
    promised: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool at one time."""

    now: datetime
    nodes: Sequence[PoolNode]
    allocations: Sequence[Allocation]
    queued: Sequence[QueuedRequest]


@dataclass(frozen=True, slots=True)
class Plan:
    """The slots of a pool.

    Attributes:
        slots: request id to slot, for every request that some node can serve.
        impossible: ids that no node could serve, now or later.
        replanned: ids whose held slot had become infeasible.
    """

    slots: Mapping[str, Slot]
    impossible: frozenset[str]
    replanned: frozenset[str]


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """When units could be had: the start (None: never), and the end that a reservation may last to (None: no end)."""

    start: datetime | None
    until: datetime | None = None


def could_ever_serve(nodes: Iterable[PoolNode], units: int, count: int = 1, profiling: bool = False) -> bool:
    """Whether the nodes, all free, could serve such a request. Impossible is not busy."""
    zones: dict[str, int] = {}
    for node in nodes:
        if node.profiling == profiling and (node.units >= units if count == 1 else node.units == units):
            zones[node.zone] = zones.get(node.zone, 0) + 1
    return any(fitting >= count for fitting in zones.values())
