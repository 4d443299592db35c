"""Where large, opaque bytes lie: file listings, logs."""

from __future__ import annotations

from typing import Protocol


class BlobStore(Protocol):
    """Bytes by key. A key is one or more names joined by `/`; a name is letters, digits, `-`, `_` and `.`."""

    def put(self, key: str, content: bytes) -> None:
        """Store the bytes, whole or not at all; what was there is replaced."""

    def find(self, key: str) -> bytes | None:
        """The bytes, or None."""

    def delete(self, key: str) -> None:
        """Forget the bytes; a key that is not there is no error."""
