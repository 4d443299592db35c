"""Ranges of the host's user and group ids: the kernel's counts by user are separate for each range.

A cloud has one range in which the owners of all homes are stored, and, where the machine can map mounts, one more for
each SSH port: no two live boxes have the same port, so none have the same range.
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
        ports: first and last SSH port of boxes.
        separate: whether each box has a range of its own; otherwise all boxes share that of the homes.
    """

    base: int = 0
    ports: tuple[int, int] = (0, 0)
    separate: bool = False

    @property
    def fit(self) -> bool:
        """Whether there are enough ids for a range for each port."""
        return self.last <= LARGEST_ID

    @property
    def last(self) -> int:
        """The last id of the last port's range."""
        return self.base + ID_COUNT * (2 + self.ports[1] - self.ports[0]) - 1

    def range_of(self, ssh_port: int) -> int:
        """First id of the range of a box at this port; 0 if boxes share one range."""
        return self.base + ID_COUNT * (1 + ssh_port - self.ports[0]) if self.separate else 0
