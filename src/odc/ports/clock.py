"""The time, on two clocks that should agree, and a pause."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The wall clock, which may jump, and the time since boot, which may not."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""

    def since_boot(self) -> timedelta:
        """Time since this machine's boot, sleep included."""

    def boot_id(self) -> str:
        """Another string after each boot."""

    def pause(self, length: timedelta) -> None:
        """Let this much time pass before it returns. For pauses of milliseconds: nothing ends one early."""
