"""The nodes of one kind with all that is taken of them, and the slots that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from odc.scheduling.model import PoolNode, QueuedRequest
from odc.scheduling.timeline import FOREVER, Timeline
from odc.scheduling.window_index import WindowIndex

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return (moment - _EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time of these microseconds since the epoch."""
    return _EPOCH + micros * MICROSECOND


@dataclass(slots=True, eq=False)
class PlacedSlot:
    """A request's slot inside the plan: where its units are taken.

    Attributes:
        request: the request.
        start: of the slot, in microseconds; as is `duration`.
        nodes: by number, in rank order.
        units: taken of each node.
        look_again: something came free on one of its nodes since it was last tried to start it earlier.
    """

    request: QueuedRequest
    start: int
    nodes: list[int]
    units: int
    duration: int
    look_again: bool = False


class NodeTimelines:
    """Nodes of one kind (plain or profiling, existing or not) with their profiles and indexes."""

    def __init__(self, nodes: Sequence[PoolNode], now: int) -> None:
        self.nodes = list(nodes)
        self.zones = [node.zone for node in nodes]
        self.number = {node.name: index for index, node in enumerate(nodes)}
        self.profiles = [
            Timeline(index, node.units, max(now, to_micros(node.available_from)) if node.available_from else now)
            for index, node in enumerate(nodes)
        ]
        self._sizes: dict[int, WindowIndex] = {}
        self._holders: list[set[PlacedSlot]] = [set() for _ in nodes]

    def index(self, size: int) -> WindowIndex:
        """The windows of a size; made when first asked for."""
        if size not in self._sizes:
            self._sizes[size] = WindowIndex(size, self.profiles)
        return self._sizes[size]

    def change(self, node: int, start: int, end: int, by: int) -> None:
        """Give (or take, if negative) units of a node over `[start, end)`."""
        profile = self.profiles[node]
        profile.change(start, end, by)
        for size in self._sizes.values():
            size.renew(profile, freed=by > 0)
        if by > 0:
            for held in self._holders[node]:
                if start < held.start <= end:
                    held.look_again = True

    def take(self, held: PlacedSlot) -> None:
        """Take the units of a slot."""
        for node in held.nodes:
            self.change(node, held.start, held.start + held.duration, -held.units)
            self._holders[node].add(held)

    def lift(self, held: PlacedSlot) -> None:
        """Give the units of a slot back."""
        for node in held.nodes:
            self._holders[node].discard(held)
            self.change(node, held.start, held.start + held.duration, held.units)

    def may_improve(self, held: PlacedSlot) -> bool:
        """Whether something came free that could let the slot start earlier. False is certain, and cheap."""
        return held.look_again or self.index(held.units).gains.reach(held.start, held.duration)

    def next_round(self) -> None:
        """Every slot has been tried once more."""
        for size in self._sizes.values():
            size.gains.next_round()

    def forget_gains(self) -> None:
        """No slot can start earlier by anything that came free."""
        for size in self._sizes.values():
            size.gains.clear()

    def close(self, node: int) -> None:
        """Let the node take nothing new, ever."""
        self.change(node, 0, FOREVER, -self.nodes[node].units - 1)

    def find(
        self, units: int, count: int, duration: int, not_before: int, before: int = FOREVER
    ) -> tuple[int, list[int]] | None:
        """The earliest start and its nodes, or None. A gang is not looked for from `before` on."""
        if count == 1:
            window = self.index(units).earliest(duration, not_before)
            return None if window is None else (max(window[0], not_before), [window[2]])
        return self.index(units).gang(count, duration, self.zones, not_before, before)
