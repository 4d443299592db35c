"""Space for the records to grow, where they are in a file system of this machine."""

from __future__ import annotations

from typing import Protocol

from odc.domain.records import StoreRoom


class StoreSpace(Protocol):
    """The space of the store. May be called by several threads at once."""

    def room(self) -> StoreRoom:
        """Whether the records have room to grow. A store that has no limit of its own always has.

        Cost: one question to the file system.
        """
