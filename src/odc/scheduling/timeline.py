"""A node's free units over time, as a step function, and the windows in which a size fits.

Times are whole microseconds since the epoch; `FOREVER` is later than every one. Intervals are `[start, end)`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

FOREVER = 1 << 62

Window = tuple[int, int, int, int]
"""Start, free units at the start, index of the node, end: sorts by start, then by best fit, then by node."""


class Timeline:
    """Free units of one node. `times[i]` is where `free[i]` begins; the last one holds for ever."""

    __slots__ = ("free", "index", "times", "units")

    def __init__(self, index: int, units: int, start: int) -> None:
        self.index = index
        self.units = units
        self.times = [start]
        self.free = [units]

    def change(self, start: int, end: int, by: int) -> None:
        """Add `by` (negative: take) to the free units over `[start, end)`. What lies before the profile's begin is cut.

        Cost: linear in the steps of the interval.
        """
        start = max(start, self.times[0])
        if start >= end:
            return
        first = self._split(start)
        last = self._split(end) if end < FOREVER else len(self.times)
        for step in range(first, last):
            self.free[step] += by
        self._merge(last)
        self._merge(first)

    def least_free(self, start: int, end: int) -> int:
        """The fewest free units over the interval; it must not be empty."""
        first = max(bisect_right(self.times, start) - 1, 0)
        last = bisect_left(self.times, end)
        return min(self.free[first : max(last, first + 1)])

    def first_lack(self, start: int, size: int) -> int:
        """The first time from `start` on at which fewer than `size` units are free, or FOREVER."""
        first = max(bisect_right(self.times, start) - 1, 0)
        for step in range(first, len(self.times)):
            if self.free[step] < size:
                return max(self.times[step], start)
        return FOREVER

    def windows(self, size: int) -> list[Window]:
        """The maximal intervals with at least `size` free, by start."""
        found: list[Window] = []
        begun = -1
        times, free = self.times, self.free
        for step, count in enumerate(free):
            if count >= size:
                if begun < 0:
                    begun = step
            elif begun >= 0:
                found.append((times[begun], free[begun], self.index, times[step]))
                begun = -1
        if begun >= 0:
            found.append((times[begun], free[begun], self.index, FOREVER))
        return found

    def _split(self, time: int) -> int:
        """The step that begins at `time`, made if there is none."""
        step = bisect_left(self.times, time)
        if step == len(self.times) or self.times[step] != time:
            self.times.insert(step, time)
            self.free.insert(step, self.free[step - 1])
        return step

    def _merge(self, step: int) -> None:
        """Drop the step if the one before it is the same."""
        if 0 < step < len(self.times) and self.free[step] == self.free[step - 1]:
            del self.times[step], self.free[step]
