"""The open windows of all nodes for one size, indexed so that the earliest fit is found without scanning all of them.

The earliest start of a request is the start of some window (or the time before which it must not start). Windows are
grouped by the bit length of their length, that is, by powers of two, and sorted within each group. For a request of
some duration,

* groups of shorter windows are skipped whole,
* in the group of the same bit length, the first window that is long enough is the best one,
* in each group of longer windows, every window is long enough, so the first one is the best one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter

from odc.scheduling.grown_windows import GrownWindows
from odc.scheduling.timeline import BEGINNING, FOREVER, Timeline, Window

_GROUPS = FOREVER.bit_length() + 1

_latest_start = itemgetter(0)


class WindowIndex:
    """The open windows for one size, of some nodes.

    Attributes:
        size: units.
        grown: the windows that grew since every slot was last tried.
    """

    __slots__ = ("_by_node", "_groups", "_used", "_whole", "grown", "size")

    def __init__(self, size: int, timelines: Sequence[Timeline]) -> None:
        self.size = size
        # Gangs take whole nodes only.
        self._whole = {timeline.index for timeline in timelines if timeline.units == size}
        self._groups: list[list[Window]] = [[] for _ in range(_GROUPS)]
        self._by_node: dict[int, list[Window]] = {}
        # Windows that are there from the beginning have not grown: slots are placed against them.
        self.grown = GrownWindows()
        for timeline in timelines:
            windows = timeline.windows(size)
            self._by_node[timeline.index] = windows
            for window in windows:
                self._groups[window.length.bit_length()].append(window)
        for group in self._groups:
            group.sort()
        # A group that becomes empty stays in the list: it costs a look, and most are filled again soon.
        self._used = [number for number in range(_GROUPS) if self._groups[number]]

    def update(self, timeline: Timeline, freed: bool) -> None:
        """Index the node's windows again after its timeline changed, and record those that grew.

        Args:
            timeline: of the node, after the change.
            freed: the change gave units back; False if it took some.
        """
        old = self._by_node[timeline.index]
        new = timeline.windows(self.size)
        if old == new:
            return
        self._by_node[timeline.index] = new
        # What remains of a window after a part was taken has grown only if that window had. So a new window is a grown
        # one unless it is inside an old window that had not grown. When nothing was freed and no window had grown,
        # everything new is such a remainder, and the comparison is skipped.
        may_have_grown = freed or len(self.grown) > 0
        not_grown = [window for window in old if window not in self.grown] if may_have_grown else []
        for window in old:
            if window not in new:
                self._delete(window)
        for window in new:
            if window not in old:
                self._insert(window)
                if may_have_grown and not _is_inside_any(window, not_grown):
                    self.grown.add(window)

    def advance(self, timeline: Timeline) -> None:
        """Cut the node's windows after its timeline advanced. A window that is cut has not grown.

        Cost: constant for a node without units that are free now.
        """
        now = timeline.times[0]
        windows = self._by_node[timeline.index]
        if not windows or windows[0].start >= now:
            return
        kept = [window for window in windows if window.end > now]
        for window in windows:
            if window.start < now:
                self._delete(window)
        if kept and kept[0].start < now:
            kept[0] = kept[0]._replace(start=now, free=timeline.free[0])
            self._insert(kept[0])
        self._by_node[timeline.index] = kept

    def earliest(self, duration: int, not_before: int = BEGINNING) -> Window | None:
        """The best window in which `duration` fits from `not_before` on: by start, then by best fit, then by node.

        The window itself may start before `not_before`.

        Cost: linear in the windows of about the same length; with `not_before`, linear in all windows.
        """
        if not_before > BEGINNING:
            # A bound cuts windows, so their length says no longer whether the request fits.
            fitting = (w for w in self.all() if w.end - max(w.start, not_before) >= duration)
            return min(fitting, key=lambda w: (max(w.start, not_before), w.free, w.node), default=None)
        best: Window | None = None
        own = duration.bit_length()
        for number in self._used:
            if number < own:
                continue
            group = self._groups[number]
            if number == own:
                # The first group that is looked at, so there is nothing to compare with yet.
                for window in group:
                    if window.end - window.start >= duration:
                        best = window
                        break
            elif group and (best is None or group[0] < best):
                best = group[0]
        return best

    def all(self) -> Iterator[Window]:
        """Every window, in no order."""
        for number in self._used:
            yield from self._groups[number]

    def window_at(self, node: int, time: int) -> Window | None:
        """The node's window that contains this time, or None."""
        for window in self._by_node[node]:
            if window.start <= time < window.end:
                return window
        return None

    def earliest_gang(
        self, count: int, duration: int, zones: Sequence[str], not_before: int, before: int
    ) -> tuple[int, list[int]] | None:
        """The earliest start in `[not_before, before)` with `count` whole nodes of one zone free for `duration`.

        Args:
            count: nodes.
            duration: microseconds.
            zones: of every node, by index.
            not_before: first start to consider.
            before: first start not to consider.

        Returns:
            The start and the nodes by index, or None.

        Cost: linear in the windows that start before the result and are at least about half as long as the duration.
        """
        own = duration.bit_length()
        # Sweep over the starts of windows. For each zone, the nodes on which the gang could start now, each with the
        # latest start that its window allows. As soon as a zone has enough of them, the start is the earliest one.
        candidates: dict[str, list[tuple[int, int]]] = {}
        for window in merge(*(self._groups[number] for number in self._used if number >= own)):
            start = max(window.start, not_before)
            if start >= before:
                return None
            if window.end - start < duration or window.node not in self._whole:
                continue
            zone = candidates.setdefault(zones[window.node], [])
            insort(zone, (window.end - duration, window.node))
            # Windows in which it is too late to start now. What is left contains each node once: two windows of a
            # node never overlap.
            del zone[: bisect_left(zone, start, key=_latest_start)]
            if len(zone) >= count:
                return start, sorted(node for _, node in zone)[:count]
        return None

    def _delete(self, window: Window) -> None:
        group = self._groups[(window.end - window.start).bit_length()]
        del group[bisect_left(group, window)]
        self.grown.discard(window)

    def _insert(self, window: Window) -> None:
        number = (window.end - window.start).bit_length()
        group = self._groups[number]
        if not group and number not in self._used:
            insort(self._used, number)
        insort(group, window)


def _is_inside_any(window: Window, others: Iterable[Window]) -> bool:
    return any(other.start <= window.start and window.end <= other.end for other in others)
