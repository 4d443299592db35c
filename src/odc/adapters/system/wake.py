"""A bell inside one process, for the passes and for everyone who watches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta


class LocalWake:
    """See `odc.ports.wake`. Listeners hear every ring too; they must not block."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def ring(self) -> None:
        """Wake whoever waits, or the next who does, and tell the listeners."""
        self._rung.set()
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def wait(self, timeout: timedelta) -> bool:
        """Wait until it is rung or the time is over."""
        rung = self._rung.wait(timeout.total_seconds())
        self._rung.clear()
        return rung

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call the listener at every ring, in the ringer's thread; returns what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe
