"""Fault injection for the memory adapters: failures of real backends, at a moment that the test chooses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from odc.domain.errors import OdcError


@dataclass(slots=True)
class _Fault:
    method: str
    error: OdcError
    left: int
    after: bool


class FaultInjector:
    """The faults of one adapter. May be used by several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []

    def add(self, method: str, error: OdcError, times: int = 1, *, after: bool = False) -> None:
        """Make the next calls of a method fail.

        Args:
            method: its name.
            error: the error that it raises.
            times: how many calls fail.
            after: the call does its work before it fails, as if only the answer was lost.
        """
        with self._lock:
            self._faults.append(_Fault(method, error, times, after))

    def clear(self) -> None:
        """Nothing fails any more."""
        with self._lock:
            self._faults.clear()

    @contextmanager
    def around(self, method: str) -> Iterator[None]:
        """Raise the method's fault before or after the block, if there is one."""
        fault = self._take(method)
        if fault is not None and not fault.after:
            raise fault.error
        yield
        if fault is not None:
            raise fault.error

    def _take(self, method: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.method == method and fault.left > 0:
                    fault.left -= 1
                    return fault
        return None
