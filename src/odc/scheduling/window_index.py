"""Every node's windows for the sizes that are asked for, filed so that the earliest fit is found without a scan.

The earliest start of a request is the start of some window. Windows of a size are filed by the binary length class of
their duration: in a higher class than the request's the first one fits; in its own class one looks on until one is
long enough.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge

from odc.scheduling.grown_windows import GrownWindows
from odc.scheduling.timeline import Timeline, Window

CLASSES = 64


class WindowIndex:
    """The windows of one size, of all nodes."""

    __slots__ = ("_by_node", "_classes", "_used", "_whole", "gains", "size")

    def __init__(self, size: int, profiles: Sequence[Timeline]) -> None:
        self.size = size
        self._whole = {profile.index for profile in profiles if profile.units == size}
        self._classes: list[list[Window]] = [[] for _ in range(CLASSES)]
        self._by_node: list[list[Window]] = []
        self.gains = GrownWindows()
        for profile in profiles:
            windows = profile.windows(size)
            self._by_node.append(windows)
            for window in windows:
                self._classes[(window[3] - window[0]).bit_length()].append(window)
        for filed in self._classes:
            filed.sort()
        self._used = [number for number in range(CLASSES) if self._classes[number]]

    def renew(self, profile: Timeline, freed: bool) -> None:
        """File the node's windows anew after its profile changed; note those that grew."""
        old = self._by_node[profile.index]
        new = profile.windows(self.size)
        if old == new:
            return
        self._by_node[profile.index] = new
        known = [window for window in old if window not in self.gains] if freed or self.gains else None
        for window in old:
            if window not in new:
                filed = self._classes[(window[3] - window[0]).bit_length()]
                del filed[bisect_left(filed, window)]
                self.gains.lose(window)
        for window in new:
            if window not in old:
                self._file(window)
                # What is left of a window that grew still counts as grown; what is left of another one does not.
                if known is not None and not _lies_in(window, known):
                    self.gains.note(window)

    def _file(self, window: Window) -> None:
        number = (window[3] - window[0]).bit_length()
        filed = self._classes[number]
        if not filed and number not in self._used:
            insort(self._used, number)
        insort(filed, window)

    def earliest(self, duration: int, not_before: int = 0) -> Window | None:
        """The first window, by start and best fit, that holds `duration`; its start may lie before `not_before`."""
        if not_before:
            fitting = (w for w in self.all() if w[3] - max(w[0], not_before) >= duration)
            return min(fitting, key=lambda w: (max(w[0], not_before), w[1], w[2]), default=None)
        best: Window | None = None
        own = duration.bit_length()
        for number in self._used:
            if number < own:
                continue
            filed = self._classes[number]
            if number == own:
                for window in filed:
                    if window[3] - window[0] >= duration:
                        best = window
                        break
            elif filed and (best is None or filed[0] < best):
                best = filed[0]
        return best

    def all(self) -> Iterator[Window]:
        """Every window, in no order."""
        for number in self._used:
            yield from self._classes[number]

    def window_at(self, node: int, time: int) -> Window | None:
        """The node's window that contains this time, or None."""
        for window in self._by_node[node]:
            if window[0] <= time < window[3]:
                return window
        return None

    def gang(
        self, count: int, duration: int, zones: Sequence[str], not_before: int, before: int
    ) -> tuple[int, list[int]] | None:
        """The earliest start in `[not_before, before)` with `count` whole nodes of one zone free for `duration`.

        Returns:
            The start and the nodes, or None.

        Cost: linear in the windows of at least that length, give or take a factor of two, up to that start.
        """
        own = duration.bit_length()
        waiting: dict[str, list[tuple[int, int]]] = {}
        for window in merge(*(self._classes[number] for number in self._used if number >= own)):
            start = max(window[0], not_before)
            if start >= before:
                return None
            end, node = window[3], window[2]
            if end - start < duration or node not in self._whole:
                continue
            zone = waiting.setdefault(zones[node], [])
            insort(zone, (end - duration, node))
            del zone[: bisect_left(zone, (start, -1))]
            if len(zone) >= count:
                return start, sorted(index for _, index in zone)[:count]
        return None


def _lies_in(window: Window, others: Iterable[Window]) -> bool:
    return any(other[0] <= window[0] and window[3] <= other[3] for other in others)
