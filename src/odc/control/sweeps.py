"""Work that is done from time to time, by one process for all: when it is due is recorded, as a lease.

A process that starts does not repeat what another one has just done, and one that lives for months does it again and
again. The leases are an optimisation: every sweep may run twice. So none is taken for a sweep whose interval is shorter
than the lease of passes while this process has that one: no other process does it meanwhile.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from odc.control.lease import DURATION, PassLease
from odc.ports.clock import Clock
from odc.ports.leases import Leases

STORAGE, PRUNING, HOST, LEFTOVERS = "storage", "pruning", "host", "leftovers"
NAMES = (STORAGE, PRUNING, HOST, LEFTOVERS)
RETRY = timedelta(seconds=1)
"""The pause before a process asks again for a sweep that another one has done."""


class Sweeps:
    """When each sweep is due. May be used by several threads at once."""

    def __init__(self, leases: Leases, clock: Clock, lease: PassLease) -> None:
        self._leases = leases
        self._clock = clock
        self._lease = lease
        # By name, since boot: when it is due as far as this process knows, and when it is worth asking for one that
        # another process has taken. Saves the question in most passes.
        self._due: dict[str, timedelta] = {}
        self._ask_again: dict[str, timedelta] = {}
        self._asked: set[str] = set()

    def take(self, name: str, interval: timedelta, now: datetime | None) -> bool:
        """Whether this process should do the sweep now. Then no process does it again until the interval is over.

        Args:
            name: one of `NAMES`.
            interval: between two of them.
            now: the wall clock; None if it cannot be trusted: then each process goes by its own time since boot.

        Raises:
            ProviderUnavailable: the store does not answer.
        """
        since_boot = self._clock.since_boot()
        if since_boot < max(self._due.get(name, timedelta(0)), self._ask_again.get(name, timedelta(0))):
            return False
        is_alone = interval < DURATION and self._lease.leads
        # A new holder each time: the lease is not renewed but taken again when it has expired.
        if now and not is_alone and not self._leases.acquire_lease(name, uuid.uuid4().hex, now, interval):
            self._ask_again[name] = since_boot + RETRY
            return False
        self._due[name] = since_boot + interval
        self._asked.discard(name)
        return True

    def ask(self, name: str, delay: timedelta = timedelta(0)) -> None:
        """Make a sweep due, because there is something to do: for this process after the delay, for others at once.

        Raises:
            ProviderUnavailable: the store does not answer.
        """
        self._leases.expire_lease(name)
        self._due[name] = self._clock.since_boot() + delay
        self._asked.add(name)
        self._ask_again.pop(name, None)

    def asked_in(self, name: str) -> timedelta | None:
        """How long until a sweep is due that this process has asked for; None if there is none."""
        if name not in self._asked:
            return None
        left = self._due[name] - self._clock.since_boot()
        # One that is due and was not taken is at work, here or in another process.
        return left if left > timedelta(0) else None
