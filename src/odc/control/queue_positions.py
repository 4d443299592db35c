"""Places of queued reservations in their pools' queues, and what each waits for: read from the stored outlooks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from odc.domain.disk import Disk
from odc.domain.outlook import Outlook
from odc.domain.reservation import Reservation, State
from odc.domain.status import WaitsFor
from odc.ports.state_store import StateStore


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a queued reservation waits for.

    Attributes:
        kind: which of the three.
        reservation: the one before it, or the one that has the GPUs; None for a disk.
        disk: name of its own disk, if it waits for that.
    """

    kind: WaitsFor
    reservation: Reservation | None = None
    disk: str = ""


class QueuePositions:
    """The queues of all pools, for the reservations of one answer."""

    def __init__(self, outlooks: Mapping[str, Outlook], store: StateStore, listed: Iterable[Reservation]) -> None:
        """Store the arguments.

        Args:
            outlooks: by GPU type.
            store: where a reservation is read that is not listed.
            listed: reservations that have been read already.
        """
        self._outlooks = outlooks
        self._store = store
        self._listed = {record.order: record for record in listed}

    def position(self, record: Reservation) -> int | None:
        """Its place in its pool's queue, from 1; None if it is not queued."""
        if record.state is not State.QUEUED:
            return None
        return bisect_left(self._queue(record), record.order) + 1

    def ahead(self, record: Reservation, disk: Disk | None) -> Ahead | None:
        """Return what it waits for: its own disk, else the reservation before it in the queue, else the GPUs of
        another; None if it is not queued, or that is not known.

        Cost: one read at most.
        """
        if record.state is not State.QUEUED:
            return None
        if disk is not None and disk.holder not in (None, record.id):
            return Ahead(WaitsFor.DISK, disk=disk.name)
        queue = self._queue(record)
        place = bisect_left(queue, record.order)
        if place:
            before = self._find(queue[place - 1])
            return Ahead(WaitsFor.QUEUE, before) if before is not None and before.state is State.QUEUED else None
        first = self._outlooks.get(record.spec.gpu_type, Outlook()).first
        if first is None or not first.waits_for or queue[0] != record.order:
            return None
        holder = self._store.find_reservation(first.waits_for)
        return Ahead(WaitsFor.GPUS, holder) if holder is not None and holder.occupies else None

    def _queue(self, record: Reservation) -> tuple[int, ...]:
        return self._outlooks.get(record.spec.gpu_type, Outlook()).queue

    def _find(self, order: int) -> Reservation | None:
        return self._listed.get(order) or self._store.find_in_line(order)
