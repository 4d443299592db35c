"""Wake-ups: the signal that reservations have changed. Losing one only costs time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Protocol

Listener = Callable[[frozenset[str]], None]
"""Called with the ids of the reservations that have changed."""


class Wake(Protocol):
    """Wakes the passes and the long polls. Every method may be called at any time, from any thread."""

    def notify(self, changed: Collection[str] = ()) -> None:
        """Wake the waiting thread, or the next one that waits, and call the listeners if something changed.

        Args:
            changed: ids of the reservations that were committed; empty if only the passes have something to do.
        """

    def wait(self, timeout: timedelta) -> bool:
        """Wait until `notify` is called or the time is over; True if it was called since the last wait."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call the listener for all changes, in the notifier's thread, until it raises RuntimeError. It must not block.

        Returns:
            A function that unsubscribes it; it may be called again. A `notify` that is running may still call the
            listener.
        """
