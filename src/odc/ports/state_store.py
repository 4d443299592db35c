"""The store of records. Compare-and-set is what makes the whole system safe: no writer acts on outdated records.

One adapter implements this port and its neighbours `history`, `leases` and `pruning`, over the same records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.records import Change, RequestRecord, Stored
from odc.domain.reservation import Reservation, Secrets
from odc.domain.user import User


class StateStore(Protocol):
    """The current records. Any method may be called by several threads and processes at once.

    Every method raises `ProviderUnavailable` when the store does not answer; for `commit` it is then unknown whether
    the change was written.
    """

    def observe(self) -> Stored:
        """Return all live records. They need not be of one moment: other writers may write while this reads.

        The pools' versions are read before the records that they cover, so that a change which is based on a record
        that is newer than its pool's version conflicts. Each record is complete, and as new as its version says.

        Cost: grows with the live records, not with the ended ones.
        """

    def commit(self, change: Change) -> None:
        """Write the change atomically.

        A reservation that is written for the first time gets the next place in line as its `order`. A handover gives
        the user's ended reservations to the other principal, at the latest before the next `observe` returns. A store
        may take at most `MAX_ITEMS` at once, see `Change.items`.

        Raises:
            Conflict: a version differs from the one that was read; the request's id is taken; or the owner has
                another disk of that name, or another reservation that still has that name. Nothing was written.
        """

    def find_request(self, request_id: str) -> RequestRecord | None:
        """The request with its answer, or None if it was never committed."""

    def find_reservation(self, reservation_id: str) -> Reservation | None:
        """The record with exactly this id, ended ones too, or None."""

    def find_secrets(self, reservation_id: str) -> Secrets | None:
        """Return the secrets of exactly this reservation, or None. No other method reads them."""

    def find_in_line(self, order: int) -> Reservation | None:
        """The live reservation with this place in line, or None."""

    def find_disks(self, ids: Iterable[str]) -> dict[str, Disk]:
        """Return the disks that exist of those with these ids, by id."""

    def find_disk(self, disk_id: str) -> Disk | None:
        """Return the disk with exactly this id, of any owner; None if there is none."""

    def find_snapshots(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], SnapshotRecord]:
        """Return the snapshots that exist of those with these ids of disk and snapshot."""

    def find_user(self, principal: str) -> User | None:
        """The user's record, or None."""
