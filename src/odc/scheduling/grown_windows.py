"""The open windows that grew since every placed slot was last tried: only they can let a slot start earlier.

A slot that was tried in vain stays where it is until some window offers more than before. So the planner asks here
before it searches, and most slots are passed over by one binary search. The answer is exact in one direction only:
"no" means that no grown window can help; after a "yes" the search may still find nothing.

The windows are summed up in a Pareto front: pairs of a start and a length, both rising, where each length is that of
the longest grown window which begins at that start or earlier. A window that is gone is not taken out of the front at
once, because that means building it again; `rebuild_if_stale` does so after a search in vain, which is when a wrong
"yes" has just cost something.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from odc.scheduling.timeline import Window


class GrownWindows:
    """The grown windows of one size. `window_index` reports each change, `plan` says when a round is over."""

    __slots__ = ("_front_lengths", "_front_starts", "_round", "_round_of", "_stale")

    def __init__(self) -> None:
        self._round = 0
        self._round_of: dict[Window, int] = {}
        """Each grown window, and the round in which it grew."""
        self._front_starts: list[int] = []
        self._front_lengths: list[int] = []
        self._stale = False
        """Whether the front still counts a window that is gone."""

    def __len__(self) -> int:
        """How many windows grew."""
        return len(self._round_of)

    def __contains__(self, window: Window) -> bool:
        """Whether this window grew."""
        return window in self._round_of

    def add(self, window: Window) -> None:
        """Record that the window grew."""
        self._round_of[window] = self._round
        self._add_to_front(window)

    def discard(self, window: Window) -> None:
        """Record that the window is gone, whether it had grown or not."""
        if self._round_of.pop(window, None) is not None:
            self._stale = True

    def may_fit(self, start: int, duration: int) -> bool:
        """Whether some grown window may begin before `start` and last for `duration`. False is certain."""
        earlier = bisect_left(self._front_starts, start)
        return earlier > 0 and self._front_lengths[earlier - 1] >= duration

    def rebuild_if_stale(self) -> None:
        """Take windows that are gone out of the front.

        Cost: linear in the grown windows, and a sort; nothing if none is gone.
        """
        if self._stale:
            self._build_front()

    def next_round(self) -> None:
        """Drop the windows that every slot has been tried against; call it when all slots have been tried once.

        A window that grew in an earlier round was there during the whole round that ends now, for every slot. One
        that grew in this round was not there yet for the slots that came before, so it stays for one more round.
        """
        self._round_of = {window: number for window, number in self._round_of.items() if number >= self._round}
        self._round += 1
        self._build_front()

    def clear(self) -> None:
        """Drop all windows: no slot can use any of them."""
        self._round_of.clear()
        self._round = 0
        self._build_front()

    def _build_front(self) -> None:
        self._stale = False
        self._front_starts.clear()
        self._front_lengths.clear()
        for window in sorted(self._round_of):
            # A later start is worth an entry only if its window is longer than all that begin earlier.
            if not self._front_lengths or window.length > self._front_lengths[-1]:
                self._front_starts.append(window.start)
                self._front_lengths.append(window.length)

    def _add_to_front(self, window: Window) -> None:
        """Add one window to the front: it replaces the entries that begin no earlier and are no longer."""
        starts, lengths = self._front_starts, self._front_lengths
        after = bisect_right(starts, window.start)
        if after > 0 and lengths[after - 1] >= window.length:
            return
        # A shorter entry with the same start is replaced, too; any other entry before `after` begins earlier: it stays.
        first = after - 1 if after > 0 and starts[after - 1] == window.start else after
        last = after
        while last < len(lengths) and lengths[last] <= window.length:
            last += 1
        starts[first:last] = [window.start]
        lengths[first:last] = [window.length]
