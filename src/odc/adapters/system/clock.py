"""The machine's clocks."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


class SystemClock:
    """See `odc.ports.clock`."""

    def now(self) -> datetime:
        """The wall clock."""
        return datetime.now(UTC)

    def since_boot(self) -> timedelta:
        """Time since boot, sleep included."""
        return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))

    def boot_id(self) -> str:
        """The kernel's own."""
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def pause(self, length: timedelta) -> None:
        """Sleep."""
        time.sleep(length.total_seconds())
