"""Wakes inside one process: for the passes, and for every long poll."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta


class LocalWake:
    """See `odc.ports.wake`. Listeners are called at every `notify` too; they must not block."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._notified = False
        self._listeners: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    def notify(self) -> None:
        """Wake the waiting thread, or the next one that waits, and call the listeners."""
        with self._condition:
            self._notified = True
            self._condition.notify()
            listeners = list(self._listeners.items())
        for number, listener in listeners:
            try:
                listener()
            except RuntimeError:
                # Its event loop has closed, which must not stop the caller.
                self._forget(number)

    def wait(self, timeout: timedelta) -> bool:
        """Wait until `notify` is called or the time is over."""
        with self._condition:
            notified = self._condition.wait_for(lambda: self._notified, max(timeout.total_seconds(), 0.0))
            self._notified = False
            return notified

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener at every `notify`, in the notifier's thread, until it raises RuntimeError.

        Returns:
            A function that ends that; it may be called again. A `notify` that is running may still call the listener.
        """
        with self._condition:
            number = next(self._numbers)
            self._listeners[number] = listener
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        with self._condition:
            self._listeners.pop(number, None)
