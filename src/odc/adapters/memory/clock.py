"""A clock that moves only when a test moves it, or when what is tested pauses."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class VirtualClock:
    """See `odc.ports.clock`. `advance` moves both clocks, `jump` only the wall clock, as an administrator does."""

    def __init__(self, start: datetime = START) -> None:
        self._lock = threading.Lock()
        self._now = start.astimezone(UTC)
        self._since_boot = timedelta(hours=1)
        self._boots = 1

    def now(self) -> datetime:
        """The wall clock."""
        with self._lock:
            return self._now

    def since_boot(self) -> timedelta:
        """Time since the last boot."""
        with self._lock:
            return self._since_boot

    def boot_id(self) -> str:
        """Return a different text after each boot."""
        with self._lock:
            return f"boot-{self._boots}"

    def advance(self, by: timedelta) -> datetime:
        """Let time pass and return the new time. It must not be negative; use a jump for that."""
        if by < timedelta():
            raise ValueError("time passes forwards only")
        with self._lock:
            self._now += by
            self._since_boot += by
            return self._now

    def pause(self, length: timedelta) -> None:
        """Let that time pass at once."""
        self.advance(length)

    def jump(self, by: timedelta) -> datetime:
        """Set the wall clock forwards or backwards while no time passes."""
        with self._lock:
            self._now += by
            return self._now

    def reboot(self, off: timedelta = timedelta(minutes=1)) -> None:
        """Reboot: the wall clock continues, the time since boot starts again."""
        with self._lock:
            self._now += off
            self._since_boot = timedelta(seconds=1)
            self._boots += 1
