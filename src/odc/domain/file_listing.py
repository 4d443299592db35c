"""The files of a snapshot, and the stored form of their listing: JSON lines, compressed, of bounded size.

A listing is a sequence of gzip members, which `zcat` reads like one file. Each member holds whole lines, so that a
listing is written and read piece by piece, in constant memory, and can be cut after any member.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import msgspec

MAX_BYTES = 16 * 2**20
"""The most bytes that a stored listing takes: about three million files with typical names."""
MAX_TEXT_BYTES = 2**28
"""The most bytes of its text, so that a home with names that compress well cannot make it endless."""
MEMBER_BYTES = 2**18
_GZIP = 31
_FASTEST = 1


class FileEntry(msgspec.Struct, frozen=True, array_like=True):
    """One file of a listing: path below the home, kind (`f`, `d`, `l` or `o`), bytes, mtime in epoch seconds."""

    path: str
    kind: str
    size: int
    mtime: int


CUT = FileEntry(path="", kind="cut", size=0, mtime=0)
"""The last entry of a listing that does not name everything."""
_encoder = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(FileEntry).decode
_decode_list = msgspec.json.Decoder(tuple[FileEntry, ...]).decode


def encode_listing(
    entries: Iterable[FileEntry], most_bytes: int = MAX_BYTES, most_text: int = MAX_TEXT_BYTES
) -> Iterator[bytes]:
    """Yield the stored form of the entries in pieces. If it would be too large it is cut, and its last entry is `CUT`.

    Args:
        entries: read only as far as they are needed.
        most_bytes: limit of all pieces together.
        most_text: limit of their text before compression.
    """
    end = _compress(_encoder.encode(CUT) + b"\n")
    size = written = 0
    for text in _members(entries):
        piece = _compress(text)
        size, written = size + len(text), written + len(piece)
        if written + len(end) > most_bytes or size > most_text:
            yield end
            return
        yield piece


def decode_listing(pieces: Iterable[bytes]) -> Iterator[FileEntry]:
    """Yield the entries of a stored listing. One of version 0.1.0, a JSON list of at most 16 MiB, is read as a whole.

    Args:
        pieces: of any size.

    Raises:
        ValueError: it is not a listing, or does not end where one does.
    """
    source = iter(pieces)
    first = next(source, b"")
    if first.startswith(b"["):
        yield from _decode_list(b"".join([first, *source]))
        return
    rest = b""
    for text in _texts([first], source):
        *lines, rest = (rest + text).split(b"\n")
        yield from map(_decode, lines)
    if rest:
        raise ValueError("a listing ends in the middle of a line")


def _members(entries: Iterable[FileEntry]) -> Iterator[bytes]:
    """The lines of the entries, as many at once as a member holds."""
    text = bytearray()
    for entry in entries:
        _encoder.encode_into(entry, text, -1)
        text += b"\n"
        if len(text) >= MEMBER_BYTES:
            yield bytes(text)
            text.clear()
    if text:
        yield bytes(text)


def _compress(text: bytes) -> bytes:
    return zlib.compress(text, _FASTEST, _GZIP)


def _texts(*sources: Iterable[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP)
    begun = False
    for source in sources:
        for piece in source:
            left = piece
            while left:
                try:
                    text = member.decompress(left)
                except zlib.error as error:
                    raise ValueError(f"not a listing: {error}") from error
                begun = True
                left = member.unused_data
                if member.eof:
                    member, begun = zlib.decompressobj(_GZIP), False
                yield text
    if begun:
        raise ValueError("a listing ends in the middle of a member")
