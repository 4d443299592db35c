"""Large, opaque bytes by key: file listings."""

from __future__ import annotations

import re
from typing import Protocol

from odc.domain.errors import InvariantError

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"
_KEY = re.compile(rf"(?:{_NAME}/){{0,15}}{_NAME}", re.ASCII)


class BlobStore(Protocol):
    """Bytes by key. May be used by several threads at once.

    A key is one to sixteen names joined by `/`; a name is 1 to 128 letters, digits, `-`, `_` and `.`, and does not
    begin with a `.`. A key is never also the beginning of another's path. Every method raises `ProviderUnavailable`
    when the storage does not answer, and `InvariantError` for an invalid key.
    """

    def put(self, key: str, content: bytes) -> None:
        """Store the bytes durably and atomically; an existing blob is replaced."""

    def find(self, key: str) -> bytes | None:
        """The bytes, or None."""

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
