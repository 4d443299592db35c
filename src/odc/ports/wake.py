"""Wake-ups: the signal that something has changed. It carries no data, and losing one only costs time."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol


class Wake(Protocol):
    """Wakes the passes and the long polls. `notify` may be called at any time, from any thread."""

    def notify(self) -> None:
        """Wake the waiting thread, or the next one that waits."""

    def wait(self, timeout: timedelta) -> bool:
        """Wait until `notify` is called or the time is over; True if it was called since the last wait."""
