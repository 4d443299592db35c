"""A node's free units over time, as a step function, and the open windows in which a number of units is free.

Times are whole microseconds since the epoch: integers compare and add several times faster than `datetime`, and every
time of the domain is exact in them. Intervals are `[start, end)`. `FOREVER` as an end means that there is no end.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

BEGINNING = 0
"""Before every time of a timeline. As a lower bound: no bound."""

FOREVER = 1 << 62
"""After every time of a timeline. `window_index` derives its number of groups from it: no window is longer."""


class Window(NamedTuple):
    """An open window: a maximal interval in which at least a given number of units is free on one node.

    The order of the fields is the preference between windows, since tuples compare field by field: the earliest start,
    then best fit (the fewest free units at the start), then the first node. So `min` finds the best window.

    Attributes:
        start: first microsecond.
        free: units free at the start.
        node: index of the node.
        end: first microsecond after it, or `FOREVER`.
    """

    start: int
    free: int
    node: int
    end: int

    @property
    def length(self) -> int:
        """Microseconds from start to end."""
        # Loops over many windows subtract the two fields themselves: a property is a Python call for each.
        return self.end - self.start


class Timeline:
    """Free units of one node. `free[i]` units are free from `times[i]` to `times[i + 1]`, the last ones for ever.

    Two neighbouring steps always differ, so the windows that are read off it are maximal. `free` may be negative: the
    node has more allocations than units, or accepts nothing new.
    """

    __slots__ = ("free", "index", "times", "units")

    def __init__(self, index: int, units: int, start: int) -> None:
        self.index = index
        self.units = units
        self.times = [start]
        self.free = [units]

    def change(self, start: int, end: int, by: int) -> None:
        """Add `by` units (negative: take) over `[start, end)`; the part before the timeline's start is ignored.

        Cost: linear in the steps of the timeline.
        """
        start = max(start, self.times[0])
        if start >= end:
            return
        first = self._split(start)
        last = self._split(end) if end < FOREVER else len(self.times)
        for step in range(first, last):
            self.free[step] += by
        # Inside the interval all steps changed by the same amount, so only its two borders can have become equal to
        # their neighbours. The later one first: deleting a step moves the indices after it.
        self._merge(last)
        self._merge(first)

    def advance(self, now: int) -> None:
        """Let the timeline start later: what was before `now` is forgotten."""
        first = bisect_right(self.times, now) - 1
        if first > 0:
            del self.times[:first], self.free[:first]
        self.times[0] = max(self.times[0], now)

    def least_free(self, start: int, end: int) -> int:
        """The fewest units free at any time of `[start, end)`, which must not be empty."""
        first = max(bisect_right(self.times, start) - 1, 0)
        last = bisect_left(self.times, end)
        return min(self.free[first : max(last, first + 1)])

    def first_lack(self, start: int, size: int) -> int:
        """The first time from `start` on at which fewer than `size` units are free, or `FOREVER`."""
        first = max(bisect_right(self.times, start) - 1, 0)
        for step in range(first, len(self.times)):
            if self.free[step] < size:
                return max(self.times[step], start)
        return FOREVER

    def windows(self, size: int) -> list[Window]:
        """The open windows for `size` units, by start."""
        found: list[Window] = []
        opened: int | None = None
        times, free = self.times, self.free
        for step, count in enumerate(free):
            if count >= size:
                if opened is None:
                    opened = step
            elif opened is not None:
                found.append(Window(times[opened], free[opened], self.index, times[step]))
                opened = None
        if opened is not None:
            found.append(Window(times[opened], free[opened], self.index, FOREVER))
        return found

    def copy(self, index: int) -> Timeline:
        """An independent timeline of the same node under another index."""
        timeline = Timeline(index, self.units, self.times[0])
        timeline.times, timeline.free = list(self.times), list(self.free)
        return timeline

    def _split(self, time: int) -> int:
        """The step that begins at `time`, inserted if there is none."""
        step = bisect_left(self.times, time)
        if step == len(self.times) or self.times[step] != time:
            self.times.insert(step, time)
            self.free.insert(step, self.free[step - 1])
        return step

    def _merge(self, step: int) -> None:
        """Delete the step if it has as many free units as the one before it."""
        if 0 < step < len(self.times) and self.free[step] == self.free[step - 1]:
            del self.times[step], self.free[step]
