"""Large, opaque bytes by key: file listings. They are written and read in pieces, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

from odc.domain.errors import InvariantError

PIECE_BYTES = 2**16
"""The size of the pieces in which a blob is read; the last one is smaller."""
_NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"
_KEY = re.compile(rf"(?:{_NAME}/){{0,15}}{_NAME}", re.ASCII)


class BlobStore(Protocol):
    """Bytes by key. May be used by several threads and processes at once.

    A key is one to sixteen names joined by `/`; a name is 1 to 128 letters, digits, `-`, `_` and `.`, and does not
    begin with a `.`. A key is never also the beginning of another's path. Every method raises `ProviderUnavailable`
    when the storage does not answer, and `InvariantError` for an invalid key.
    """

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store the bytes durably and atomically; an existing blob is replaced.

        Args:
            key: of the blob.
            pieces: of the content, in order and of any size. An error that the iterator raises is passed on, and the
                blob is as before.
        """

    def exists(self, key: str) -> bool:
        """Whether there is a blob with this key."""

    def read(self, key: str) -> Iterator[bytes] | None:
        """The bytes in pieces of `PIECE_BYTES`, or None.

        The pieces are of one version, although another may replace it meanwhile. If the blob is deleted before the
        first piece is read, that raises `ProviderUnavailable`.
        """

    def delete(self, key: str) -> None:
        """Delete the bytes, if the key exists."""


def check_key(key: str) -> str:
    """The key, if it is one.

    Raises:
        InvariantError: it is invalid; keys are made by ODC, never by users.
    """
    if not _KEY.fullmatch(key):
        raise InvariantError(f"{key[:80]!r} is not a key")
    return key
