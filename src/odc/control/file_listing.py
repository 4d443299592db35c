"""A listing of a snapshot's files as it is stored: JSON of bounded size."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from odc.ports.volumes import CUT, FileEntry

MAX_BYTES = 16 * 2**20
_encode = msgspec.json.Encoder().encode


def encode_listing(entries: Iterable[FileEntry], most_bytes: int = MAX_BYTES) -> bytes:
    """Return a JSON list of the entries, encoded one by one. If it would be too large it is cut, and its last entry is
    `CUT`.

    Args:
        entries: read only as far as they are needed.
        most_bytes: limit of the whole list.
    """
    end = b"," + _encode(CUT) + b"]"
    text = bytearray(b"[")
    for entry in entries:
        piece = _encode(entry)
        if len(text) + 1 + len(piece) + len(end) > most_bytes:
            return bytes(text + (end if len(text) > 1 else end[1:]))
        text += b"," + piece if len(text) > 1 else piece
    return bytes(text + b"]")
