"""Blobs in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from odc.adapters.memory.fault_injection import FaultInjector
from odc.ports.blob_store import PIECE_BYTES, check_key


class MemoryBlobStore:
    """See `odc.ports.blob_store`; `faults` makes any method fail."""

    def __init__(self) -> None:
        self.faults = FaultInjector()
        self._lock = threading.Lock()
        self._blobs: dict[str, bytes] = {}

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store the bytes."""
        check_key(key)
        with self.faults.around("put"):
            content = b"".join(pieces)
            with self._lock:
                self._blobs[key] = content

    def exists(self, key: str) -> bool:
        """Whether there is a blob with this key."""
        with self.faults.around("exists"), self._lock:
            return check_key(key) in self._blobs

    def read(self, key: str) -> Iterator[bytes] | None:
        """The bytes in pieces, or None."""
        with self.faults.around("read"), self._lock:
            content = self._blobs.get(check_key(key))
        if content is None:
            return None
        return (content[start : start + PIECE_BYTES] for start in range(0, len(content), PIECE_BYTES))

    def delete(self, key: str) -> None:
        """Forget the bytes."""
        with self.faults.around("delete"), self._lock:
            self._blobs.pop(check_key(key), None)

    def count(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._blobs)
