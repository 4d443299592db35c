"""Ranges of the host's user and group ids: the kernel's counts by user are separate for each range.

A cloud has one range in which the owners of all homes are stored, and, where the machine can map mounts, one more for
each of its boxes.
"""

from __future__ import annotations

import msgspec

ID_COUNT = 65536
"""Ids of a range: all that a box knows."""
LARGEST_ID = 2**32 - 2
"""The largest id of a user; the next one means none."""


class IdRanges(msgspec.Struct, frozen=True, kw_only=True):
    """The ranges of a cloud.

    Attributes:
        base: first id of the range in which homes are stored.
        count: ranges in addition to that of the homes.
        separate: whether each box has a range of its own; otherwise all boxes share that of the homes.
    """

    base: int = 0
    count: int = 1
    separate: bool = False

    @property
    def fit(self) -> bool:
        """Whether there are enough ids for all ranges."""
        return self.last <= LARGEST_ID

    @property
    def last(self) -> int:
        """The last id of the last range."""
        return self.base + ID_COUNT * (1 + self.count) - 1

    def all(self) -> range:
        """First ids of the ranges of boxes, in order; empty if boxes share that of the homes."""
        first = self.base + ID_COUNT
        return range(first, first + ID_COUNT * self.count if self.separate else first, ID_COUNT)
