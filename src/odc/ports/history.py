"""Lists of records, by name and in pages. Each list is read by an index: its cost grows with the page only.

There is no general filter: a store without a query planner must be able to give each of these lists.
"""

from __future__ import annotations

from typing import Protocol

from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.paging import PAGE_SIZE, Page
from odc.domain.records import AuditEvent, Subject
from odc.domain.reservation import Reservation
from odc.domain.user import User


class History(Protocol):
    """Lists. Any method may be called by several threads and processes at once.

    Each page is as current as its read, and other writers may write between two pages. A record that exists from the
    first page to the last, and does not move to another list, is in exactly one page.

    Every method takes `page`, the token from the page before (empty: the first page), and `limit`, the number of items
    of the page, at least 1. Every method raises:
        InvalidRequest: the token is not of this list with these arguments.
        ProviderUnavailable: the store does not answer.
    """

    def list_live(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have not ended, newest place in line first.

        Args:
            owner: principal; None: everyone's.
            page: see the class.
            limit: see the class.
        """

    def list_ended(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Reservation]:
        """The reservations that have ended, newest place in line first; the arguments are those of `list_live`."""

    def list_named(
        self, name: str, owner: str | None, live: bool, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations of exactly this name, newest place in line first.

        Args:
            name: of the reservation.
            owner: principal; None: everyone's.
            live: those that have not ended; else those that have.
            page: see the class.
            limit: see the class.
        """

    def list_by_prefix(
        self, prefix: str, owner: str | None, page: str = "", limit: int = PAGE_SIZE
    ) -> Page[Reservation]:
        """The reservations whose id begins so, live and ended, by id.

        Args:
            prefix: hexadecimal digits.
            owner: principal; None: everyone's.
            page: see the class.
            limit: see the class.
        """

    def list_events(self, subject: Subject, page: str = "", limit: int = PAGE_SIZE) -> Page[AuditEvent]:
        """The events of a subject, in the order in which they were written."""

    def list_disks(self, owner: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[Disk]:
        """The owner's disks by name; with None everyone's, by owner and name."""

    def list_snapshots(self, disk_id: str | None, page: str = "", limit: int = PAGE_SIZE) -> Page[SnapshotRecord]:
        """The disk's snapshots by number, also those that are being deleted; with None of every disk, by its id."""

    def list_users(self, page: str = "", limit: int = PAGE_SIZE) -> Page[User]:
        """Every user's record, by principal."""
