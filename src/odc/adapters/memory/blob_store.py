"""Blobs in memory."""

from __future__ import annotations

import threading

from odc.adapters.memory.fault_injection import FaultInjector
from odc.ports.blob_store import check_key


class MemoryBlobStore:
    """See `odc.ports.blob_store`; `faults` makes any method fail."""

    def __init__(self) -> None:
        self.faults = FaultInjector()
        self._lock = threading.Lock()
        self._blobs: dict[str, bytes] = {}

    def put(self, key: str, content: bytes) -> None:
        """Store the bytes."""
        with self.faults.around("put"), self._lock:
            self._blobs[check_key(key)] = bytes(content)

    def find(self, key: str) -> bytes | None:
        """The bytes, or None."""
        with self.faults.around("find"), self._lock:
            return self._blobs.get(check_key(key))

    def delete(self, key: str) -> None:
        """Forget the bytes."""
        with self.faults.around("delete"), self._lock:
            self._blobs.pop(check_key(key), None)

    def count(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._blobs)
