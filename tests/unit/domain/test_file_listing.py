"""The stored form of a listing."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator

import msgspec
import pytest

from odc.domain.file_listing import CUT, MEMBER_BYTES, FileEntry, decode_listing, encode_listing


def entries(count: int) -> list[FileEntry]:
    return [FileEntry(path=f"{number:040}\n{number}", kind="f", size=number, mtime=2) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 20_000])
@pytest.mark.parametrize("size", [1000, 2**16, 2**30])
def test_a_listing_is_read_as_it_was_written_whatever_the_pieces(count: int, size: int) -> None:
    stored = b"".join(encode_listing(entries(count)))
    pieces = (stored[start : start + size] for start in range(0, len(stored), size))
    assert list(decode_listing(pieces)) == entries(count)


def test_a_listing_is_lines_that_other_programs_can_read() -> None:
    lines = gzip.decompress(b"".join(encode_listing(entries(10_000)))).splitlines()
    assert lines[3] == b'["' + b"0" * 39 + b'3\\n3","f",3,2]'
    assert len(lines) == 10_000


def test_a_listing_is_written_while_the_entries_are_read() -> None:
    read = 0

    def counted() -> Iterator[FileEntry]:
        nonlocal read
        for entry in entries(50_000):
            read += 1
            yield entry

    next(encode_listing(counted()))
    assert read < 2 * MEMBER_BYTES / 50


@pytest.mark.parametrize("limits", [(60_000, 2**30), (2**30, 700_000)], ids=["bytes", "text"])
def test_a_listing_that_would_be_too_large_is_cut_and_says_so(limits: tuple[int, int]) -> None:
    whole = entries(50_000)
    stored = b"".join(encode_listing(whole, *limits))
    found = list(decode_listing([stored]))
    assert found[-1] == CUT
    assert 1_000 < len(found) < 50_000
    assert found[:-1] == whole[: len(found) - 1]
    assert len(stored) <= limits[0]
    assert len(gzip.decompress(stored)) <= limits[1] + 100


def test_a_listing_without_room_for_anything_says_that_it_is_cut() -> None:
    assert list(decode_listing(encode_listing(entries(10), 50))) == [CUT]


def test_a_listing_of_the_first_version_is_read() -> None:
    stored = msgspec.json.encode([*entries(5), CUT])
    assert list(decode_listing([stored[:7], stored[7:]])) == [*entries(5), CUT]
    assert list(decode_listing([b"[]"])) == []


def test_what_is_not_a_whole_listing_is_refused() -> None:
    stored = b"".join(encode_listing(entries(20_000)))
    for broken in (stored[:-4], b"text", gzip.compress(b'["a","f",1,2]')):
        with pytest.raises(ValueError, match="listing"):
            list(itertools.chain(decode_listing([broken])))
