"""Wakes inside one process: for the passes, and for every long poll."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import timedelta


class LocalWake:
    """See `odc.ports.wake`. Listeners hear every ring too; they must not block."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rung = False
        self._listeners: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()

    def ring(self) -> None:
        """Wake the waiting thread, or the next one that waits, and call the listeners."""
        with self._condition:
            self._rung = True
            self._condition.notify()
            listeners = list(self._listeners.items())
        for number, listener in listeners:
            try:
                listener()
            except RuntimeError:
                # Its event loop has closed, which must not stop the caller.
                self._forget(number)

    def wait(self, timeout: timedelta) -> bool:
        """Wait until it is rung or the time is over."""
        with self._condition:
            rung = self._condition.wait_for(lambda: self._rung, max(timeout.total_seconds(), 0.0))
            self._rung = False
            return rung

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener at every ring, in the ringer's thread, until it raises RuntimeError.

        Returns:
            What ends that; it may be called again. A ring that is going on may still be heard.
        """
        with self._condition:
            number = next(self._numbers)
            self._listeners[number] = listener
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        with self._condition:
            self._listeners.pop(number, None)
