"""Stops a task whose result would be obsolete: its record has moved on, or another process runs the passes."""

from __future__ import annotations

from odc.control.lease import PassLease
from odc.domain.errors import OdcError
from odc.domain.reservation import Reservation
from odc.ports.state_store import StateStore


class Superseded(OdcError):
    """The record has moved on, so the result of this task is obsolete. This is not a fault and is not reported."""


class TaskGuard:
    """Checks before each step of one task that its effect is still wanted."""

    def __init__(self, store: StateStore, lease: PassLease, epoch: int) -> None:
        """Store the arguments.

        Args:
            store: of the records.
            lease: of this process.
            epoch: of the lease, under which the task was started.
        """
        self._store = store
        self._lease = lease
        self._epoch = epoch

    def check_lease(self) -> None:
        """Raise Superseded unless this process has had the lease since the task was started."""
        if not self._lease.holds(self._epoch):
            raise Superseded("another process runs the passes")

    def check(self, record: Reservation) -> None:
        """Raise Superseded unless the lease is ours and the stored record is still at this attempt and state."""
        self.check_lease()
        now = self._store.find_reservation(record.id)
        if now is None or now.attempt != record.attempt or now.state is not record.state:
            raise Superseded(f"{record.id} has moved on")
