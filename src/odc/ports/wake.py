"""How work is noticed at once. A wake only says `look`; losing one costs one pass."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol


class Wake(Protocol):
    """Wakes the passes and the long polls. May be rung at any time, from any thread."""

    def ring(self) -> None:
        """Wake the waiting thread, or the next one that waits."""

    def wait(self, timeout: timedelta) -> bool:
        """Wait until it is rung or the time is over; True if it was rung since the last wait."""
