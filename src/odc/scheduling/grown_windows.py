"""Which windows grew since every slot was last tried: only they can let a slot start earlier.

Kept as stairs: starts that rise, and with each the longest duration of a grown window that begins no later. A window
that is gone is taken out of the stairs only when they were climbed in vain (`recheck`): cheaper than each time.
"""

from __future__ import annotations

from bisect import bisect_left

from odc.scheduling.timeline import Window


class GrownWindows:
    """The grown windows of one size."""

    __slots__ = ("_grown", "_lengths", "_round", "_stale", "_starts")

    def __init__(self) -> None:
        self._round = 0
        self._grown: dict[Window, int] = {}
        self._starts: list[int] = []
        self._lengths: list[int] = []
        self._stale = False

    def __len__(self) -> int:
        """How many windows grew."""
        return len(self._grown)

    def __contains__(self, window: Window) -> bool:
        """Whether this window grew."""
        return window in self._grown

    def note(self, window: Window) -> None:
        """The window grew."""
        self._grown[window] = self._round
        self._step(window)

    def lose(self, window: Window) -> None:
        """The window is gone; whether it grew does not matter."""
        if self._grown.pop(window, None) is not None:
            self._stale = True

    def reach(self, start: int, duration: int) -> bool:
        """Whether a grown window may begin before `start` and be that long. False is certain."""
        place = bisect_left(self._starts, start)
        return place > 0 and self._lengths[place - 1] >= duration

    def recheck(self) -> None:
        """Build the stairs anew if something in them is gone."""
        if self._stale:
            self._build()

    def next_round(self) -> None:
        """Every slot has been tried once more: what grew before the round that has just ended is known to all."""
        self._grown = {window: number for window, number in self._grown.items() if number >= self._round}
        self._round += 1
        self._build()

    def clear(self) -> None:
        """No slot can use any of them."""
        self._grown.clear()
        self._round = 0
        self._build()

    def _build(self) -> None:
        self._stale = False
        self._starts.clear()
        self._lengths.clear()
        for window in sorted(self._grown):
            length = window[3] - window[0]
            if not self._lengths or length > self._lengths[-1]:
                self._starts.append(window[0])
                self._lengths.append(length)

    def _step(self, window: Window) -> None:
        length = window[3] - window[0]
        place = bisect_left(self._starts, window[0] + 1)
        if place > 0 and self._lengths[place - 1] >= length:
            return
        first = place - 1 if place > 0 and self._starts[place - 1] == window[0] else place
        last = place
        while last < len(self._lengths) and self._lengths[last] <= length:
            last += 1
        self._starts[first:last] = [window[0]]
        self._lengths[first:last] = [length]
