"""Deletion of old records, in small steps. The rules are in `odc.control.record_pruning`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Pruning(Protocol):
    """Deletes old records. Any method may be called by several threads and processes at once, and again after a fault.

    Every method raises `ProviderUnavailable` when the store does not answer; a part may be deleted then.
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
