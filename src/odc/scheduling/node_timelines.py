"""The timelines of several nodes, the slots that are placed on them, and the window indexes that are derived from both.

`change` is the only way in which free units change: it keeps the timelines, the indexes and the slots' `retry` flags
consistent. Here nodes are numbers (their place in the list) and times are microseconds; `plan` translates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from odc.scheduling.model import ANYWHERE, PoolNode, QueuedRequest, Where
from odc.scheduling.timeline import BEGINNING, FOREVER, Timeline
from odc.scheduling.window_index import WindowIndex

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - _EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time that is so many microseconds after the epoch."""
    return _EPOCH + micros * MICROSECOND


@dataclass(slots=True, eq=False)
class PlacedSlot:
    """A request's slot in the plan: its units are taken on its nodes from start to end.

    Attributes:
        request: whose slot it is.
        start: microseconds since the epoch.
        nodes: by index, in rank order.
        units: taken on each node.
        duration: microseconds.
        retry: units next to the slot became free since it was last tried, so it may start earlier on its own nodes.
    """

    request: QueuedRequest
    start: int
    nodes: list[int]
    units: int
    duration: int
    retry: bool = False


class NodeTimelines:
    """The nodes of a pool, with what is free on them at every time.

    Attributes:
        nodes: by index.
        index_of: name to index.
        timelines: by index.
        freed: something became free since `clear_grown`, so that some slot may start earlier.
    """

    def __init__(self, nodes: Sequence[PoolNode], now: int) -> None:
        """Start with all units free, from now on or from when the node is available."""
        self.nodes = list(nodes)
        self.index_of = {node.name: index for index, node in enumerate(nodes)}
        self.timelines = [
            Timeline(index, node.units, max(now, to_micros(node.available_from)) if node.available_from else now)
            for index, node in enumerate(nodes)
        ]
        self._zones = [node.zone for node in nodes]
        # Only a few sizes and sets of nodes are ever asked for, so an index is built when it is first needed. Keys that
        # allow the same nodes share one.
        self._windows: dict[tuple[int, Where], WindowIndex] = {}
        self._by_nodes: dict[tuple[int, frozenset[int]], WindowIndex] = {}
        self._allowed: dict[Where, frozenset[int]] = {}
        self._of_node: list[list[WindowIndex]] = [[] for _ in nodes]
        self._slots: list[set[PlacedSlot]] = [set() for _ in nodes]
        self.freed = False

    def windows(self, size: int, where: Where = ANYWHERE) -> WindowIndex:
        """The open windows for that many units on one of the nodes that are allowed."""
        found = self._windows.get((size, where))
        if found is None:
            found = self._windows[size, where] = self._index(size, where)
        return found

    def allowed(self, where: Where) -> frozenset[int]:
        """The nodes, by index, that may serve a request with this key."""
        if where not in self._allowed:
            self._allowed[where] = frozenset(index for index, node in enumerate(self.nodes) if where.allows(node))
        return self._allowed[where]

    def _index(self, size: int, where: Where) -> WindowIndex:
        allowed = self.allowed(where)
        if (size, allowed) not in self._by_nodes:
            made = WindowIndex(size, [self.timelines[index] for index in sorted(allowed)])
            self._by_nodes[size, allowed] = made
            for index in allowed:
                self._of_node[index].append(made)
        return self._by_nodes[size, allowed]

    def advance(self, now: int) -> None:
        """Let all timelines start later.

        Cost: a binary search for each node; more for nodes with units that are free now.
        """
        for timeline, indexes in zip(self.timelines, self._of_node, strict=True):
            timeline.advance(now)
            for windows in indexes:
                windows.advance(timeline)

    def change(self, node: int, start: int, end: int, by: int) -> None:
        """Add units to what is free on a node over `[start, end)`; a negative number takes them.

        Cost: linear in the steps of the node's timeline and in the indexes that have the node.
        """
        timeline = self.timelines[node]
        timeline.change(start, end, by)
        freed = by > 0
        for windows in self._of_node[node]:
            windows.update(timeline, freed)
        if freed:
            self.freed = True
            for slot in self._slots[node]:
                # Units that became free right before the slot (or from before its start into it) can add up with its
                # own units to an earlier start on this node. `GrownWindows` cannot see that: the slot itself ends the
                # window.
                if start < slot.start <= end:
                    slot.retry = True

    def add(self, slot: PlacedSlot) -> None:
        """Take the slot's units."""
        for node in slot.nodes:
            self.change(node, slot.start, slot.start + slot.duration, -slot.units)
            self._slots[node].add(slot)

    def remove(self, slot: PlacedSlot) -> None:
        """Give the slot's units back."""
        for node in slot.nodes:
            # First, or the slot would be told to retry because of its own units.
            self._slots[node].discard(slot)
            self.change(node, slot.start, slot.start + slot.duration, slot.units)

    def forget(self, slot: PlacedSlot) -> None:
        """Remove the slot, but leave its units taken."""
        for node in slot.nodes:
            self._slots[node].discard(slot)

    def close(self, node: int) -> None:
        """Let the node accept nothing new. What is allocated there may still be released: it leaves at most 0 free."""
        self.change(node, BEGINNING, FOREVER, -self.nodes[node].units)

    def find(
        self, units: int, count: int, duration: int, not_before: int, where: Where, before: int = FOREVER
    ) -> tuple[int, list[int]] | None:
        """The earliest start from `not_before` on, and the nodes that are free then.

        Args:
            units: on each node.
            count: nodes; more than one is a gang.
            duration: microseconds.
            not_before: no earlier start, or `BEGINNING`.
            where: which nodes may be used.
            before: ends the search for a gang. The search for one node is fast and may return a later start.

        Returns:
            Start and nodes, by index, in rank order; None if the units are never free for so long.
        """
        if count > 1:
            return self.windows(units, where).earliest_gang(count, duration, self._zones, not_before, before)
        window = self.windows(units, where).earliest(duration, not_before)
        return None if window is None else (max(window.start, not_before), [window.node])

    def may_start_earlier(self, slot: PlacedSlot) -> bool:
        """Whether anything became free that could let the slot start earlier. False is certain, and cheap."""
        return slot.retry or self.windows_for(slot).grown.may_fit(slot.start, slot.duration)

    def windows_for(self, slot: PlacedSlot) -> WindowIndex:
        """The open windows that the slot could move to."""
        return self.windows(slot.units, slot.request.where)

    def next_round(self) -> None:
        """Every slot has been tried once: see `GrownWindows.next_round`."""
        for windows in self._by_nodes.values():
            windows.grown.next_round()

    def clear_grown(self) -> None:
        """No slot can use any window that grew."""
        self.freed = False
        for windows in self._by_nodes.values():
            windows.grown.clear()
