"""The lease under which this process runs passes, and the epochs in which it has it without a gap.

The lease is an optimisation: two processes that run passes at once are correct, because of the versions of the records.
What a task has found out is not covered by a version. A process that lost the lease and got it again must not believe
outcomes from before: another process has acted in between. So each task is started under an epoch, and its outcome
counts only in that epoch; the same goes for checks of the host.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from odc.ports.clock import Clock
from odc.ports.leases import Leases

NAME = "passes"
DURATION = timedelta(seconds=30)
"""How long another process waits before it takes over from one that has died. The lease is renewed when less than half
of it is left, at the beginning of a pass and before its commits. So half of it is longer than a slow pass."""


class _Share(NamedTuple):
    """What this process has of the lease.

    Attributes:
        epoch: the number of times that it was lost or has lapsed.
        until: since boot; None before this process has asked for the first time.
        asked_at: the wall clock when the lease was asked for; the store counts from then.
    """

    epoch: int = 0
    until: timedelta | None = None
    asked_at: datetime | None = None


class PassLease:
    """This process's share of the lease. One thread takes and renews it; any may ask for it.

    Until `acquire` is called for the first time, as in a test or in a pass by hand, the lease counts as held.
    """

    def __init__(self, leases: Leases, clock: Clock) -> None:
        self._leases = leases
        self._clock = clock
        self._holder: str | None = None
        # Replaced as a whole, so that no reader gets the epoch of one share and the time of another.
        self._share = _Share()

    @property
    def epoch(self) -> int:
        """The number of times that the lease was lost or has lapsed. Tasks are started under it."""
        return self._share.epoch

    def holds(self, epoch: int) -> bool:
        """Whether this process has had the lease since that epoch, without a gap, and still has it."""
        share = self._share
        return epoch == share.epoch and not self._has_lapsed(share)

    @property
    def leads(self) -> bool:
        """Whether this process has taken the lease and has it now."""
        share = self._share
        return share.until is not None and not self._has_lapsed(share)

    def keep(self) -> bool:
        """As `acquire`, under the name of the last time; True if `acquire` was never called."""
        return self._holder is None or self.acquire(self._holder)

    def acquire(self, holder: str) -> bool:
        """Take the lease under this name; return whether this process has it now.

        It is renewed only if less than half of it is left: an idle process writes it four times a minute.

        Raises:
            ProviderUnavailable: the store did not answer. The lease lapses at its time.
        """
        if holder == self._holder and self._is_fresh(self._share):
            return True
        self._holder = holder
        # Before the question: the other processes count from the store's answer, which comes later.
        begun, now = self._clock.since_boot(), self._clock.now()
        granted = self._leases.acquire_lease(NAME, holder, now, DURATION)
        # Also when it has lapsed and is granted again: another process may have had it in between.
        lost = not granted or self._has_lapsed(self._share)
        self._share = _Share(self._share.epoch + lost, begun + DURATION if granted else begun, now)
        return granted

    def _is_fresh(self, share: _Share) -> bool:
        """Whether half of the time is left, by both clocks: other processes go by the wall clock, which may have been
        set ahead.
        """
        if share.until is None or share.asked_at is None:
            return False
        half = DURATION / 2
        return self._clock.since_boot() < share.until - half and self._clock.now() < share.asked_at + half

    def _has_lapsed(self, share: _Share) -> bool:
        return share.until is not None and self._clock.since_boot() >= share.until
