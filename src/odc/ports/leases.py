"""What processes of one control plane agree on besides the records: who runs passes, and the last known clocks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from odc.domain.records import ClockAnchor


class Leases(Protocol):
    """Leases and the clock anchor. Any method may be called by several threads and processes at once.

    Every method raises `ProviderUnavailable` when the store does not answer; whether it wrote is then unknown.
    """

    def acquire_lease(self, name: str, holder: str, now: datetime, length: timedelta) -> bool:
        """Take or renew the lease; True if `holder` has it until `now + length`.

        An optimisation only: correctness comes from the versions of records. The lease is free if nobody has it, or if
        it has expired by the caller's `now`; the holder renews it by the same call.

        Args:
            name: which lease.
            holder: callers that give the same name are the same holder.
            now: the caller's clock. If the clocks of two processes differ by more than `length`, both may have it.
            length: how long the lease lasts without a renewal.
        """

    def expire_lease(self, name: str) -> None:
        """End the lease, whoever has it: the next caller of `acquire_lease` gets it. One that is free stays free."""

    def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
        """The stored anchor; and if one is given, that one is stored in its place."""
