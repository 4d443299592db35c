"""Wakes inside one process: for the passes, and for every long poll."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection
from datetime import timedelta

from odc.ports.wake import Listener


class LocalWake:
    """See `odc.ports.wake`."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._notified = False
        self._listeners: dict[int, Listener] = {}
        self._numbers = itertools.count()

    def notify(self, changed: Collection[str] = ()) -> None:
        """Wake the waiting thread, or the next one that waits, and call the listeners if something changed."""
        with self._condition:
            self._notified = True
            self._condition.notify()
            listeners = list(self._listeners.items()) if changed else []
        for number, listener in listeners:
            try:
                listener(frozenset(changed))
            except RuntimeError:
                # Its event loop has closed, which must not stop the caller.
                self._forget(number)

    def wait(self, timeout: timedelta) -> bool:
        """Wait until `notify` is called or the time is over."""
        with self._condition:
            notified = self._condition.wait_for(lambda: self._notified, max(timeout.total_seconds(), 0.0))
            self._notified = False
            return notified

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call the listener for all changes, in the notifier's thread, until it raises RuntimeError."""
        with self._condition:
            number = next(self._numbers)
            self._listeners[number] = listener
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        with self._condition:
            self._listeners.pop(number, None)
