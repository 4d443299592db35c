"""Deletion of old records, in small steps. The rules are in `odc.control.record_pruning`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from odc.domain.records import Subject
from odc.domain.reservation import Reservation


class Pruning(Protocol):
    """Deletes old records. Any method may be called by several threads and processes at once, and again after a fault.

    Every method raises `ProviderUnavailable` when the store does not answer; a part may be deleted then.
    """

    def prune_requests(self, before: datetime, most: int) -> int:
        """Delete the oldest requests that came before a moment, at most so many; how many were deleted.

        A repeat of a deleted request is a new request.
        """

    def list_oldest_ended(self, most: int) -> tuple[Reservation, ...]:
        """Return the ended reservations with the oldest places in line, oldest first.

        Cost: grows with `most`, by index.
        """

    def list_ended_beyond(self, owner: str, keep: int, most: int) -> tuple[Reservation, ...]:
        """Return the owner's ended reservations beyond those that are kept, oldest first.

        Args:
            owner: principal.
            keep: number of newest ended reservations that are kept.
            most: the most to return.

        Cost: grows with the kept and the returned ones, by index.
        """

    def delete_ended(self, ids: Sequence[str]) -> None:
        """Delete these ended reservations, with their events and secrets. Others, and those that are gone, are left
        alone.
        """

    def list_event_subjects(self, before: datetime, most: int) -> tuple[Subject, ...]:
        """Return disks, nodes and users whose first event is from before a moment.

        Args:
            before: the moment.
            most: the most to return.

        Cost: grows with the events of disks, nodes and users, by index; not with those of reservations.
        """

    def delete_events(self, subject: Subject, before: datetime) -> None:
        """Delete the events of a disk, a node or a user from before a moment. Those of a reservation go with it."""
