"""The store of records. Compare-and-set is what makes the whole system safe: no writer acts on outdated records."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from odc.domain.disk import Disk
from odc.domain.records import AuditEvent, Change, ClockAnchor, RequestRecord, ReservationQuery, Stored, StoreRoom
from odc.domain.reservation import Reservation
from odc.domain.user import User


class StateStore(Protocol):
    """Records, events and requests. Any method may be called by several threads and processes at once.

    Every method raises `ProviderUnavailable` when the store does not answer; for `commit` it is then unknown whether
    the change was written.
    """

    def room(self) -> StoreRoom:
        """Whether the records have room to grow.

        Cost: one question to the file system.
        """

    def observe(self) -> Stored:
        """Return all live records, as one consistent snapshot.

        Cost: grows with the live records, not with the ended ones.
        """

    def commit(self, change: Change) -> None:
        """Write the change atomically.

        A reservation that is written for the first time gets the next place in line as its `order`. A handover gives
        the user's ended reservations to the other principal.

        Raises:
            Conflict: a version differs from the one that was read; the request's id is taken; or the owner has
                another disk of that name, or another reservation that still has that name. Nothing was written.
        """

    def find_request(self, request_id: str) -> RequestRecord | None:
        """The request with its answer, or None if it was never committed."""

    def find_reservation(self, reservation_id: str) -> Reservation | None:
        """The record with exactly this id, ended ones too, or None."""

    def list_reservations(self, query: ReservationQuery) -> tuple[Reservation, ...]:
        """Return the matching reservations, newest place in line first.

        Cost: grows with the matches, by index; at most `query.limit`.
        """

    def list_disks(self, owner: str | None) -> tuple[Disk, ...]:
        """The owner's disks by name; with None everyone's, by owner and name."""

    def find_disk(self, disk_id: str) -> Disk | None:
        """Return the disk with exactly this id, of any owner; None if there is none."""

    def list_users(self) -> tuple[User, ...]:
        """Every user's record, by principal.

        Cost: one record for each user; for operators' commands.
        """

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests that came before a moment, at most so many; how many were deleted.

        A repeat of a deleted request is a new request.
        """

    def prune_reservations(self, owner: str, keep: int, most: int) -> int:
        """Delete the owner's oldest ended reservations with their events; return how many were deleted.

        Args:
            owner: principal.
            keep: number of newest ended reservations that are kept.
            most: the most to delete in one call.

        Cost: grows with the kept and the deleted ones, by index.
        """

    def list_events(self, reservation_id: str) -> tuple[AuditEvent, ...]:
        """Return the events of a reservation, in the order in which they were written."""

    def find_user(self, principal: str) -> User | None:
        """The user's record, or None."""

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

    def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
        """The stored anchor; and if one is given, that one is stored in its place."""

    def back_up(self, target: Path) -> None:
        """Write a whole, consistent copy of the records to a file that does not exist yet.

        Raises:
            ProviderRefused: this store cannot, or the file exists; no file was changed.
        """
