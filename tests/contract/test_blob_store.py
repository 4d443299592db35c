"""The contract of the blob store, held by every adapter."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from odc.adapters.localdisk.blob_store import FileBlobStore
from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.domain.errors import InvariantError, ProviderUnavailable
from odc.ports.blob_store import PIECE_BYTES, BlobStore


@pytest.fixture(params=["memory", "files"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    yield MemoryBlobStore() if request.param == "memory" else FileBlobStore(tmp_path / "blobs")


def whole(blobs: BlobStore, key: str) -> bytes | None:
    pieces = blobs.read(key)
    return None if pieces is None else b"".join(pieces)


@pytest.mark.parametrize("content", [b"", b"text", bytes(range(256)) * 5000])
def test_what_is_put_is_found(blobs: BlobStore, content: bytes) -> None:
    blobs.put("listings/disk-1/r_1.json", [content])
    assert blobs.exists("listings/disk-1/r_1.json")
    assert whole(blobs, "listings/disk-1/r_1.json") == content


def test_a_blob_is_written_from_pieces_of_any_size_and_read_in_pieces_of_one_size(blobs: BlobStore) -> None:
    blobs.put("k", (bytes([number]) * 50_000 for number in range(8)))
    pieces = blobs.read("k")
    assert pieces is not None
    sizes = [len(piece) for piece in pieces]
    assert sizes[:-1] == [PIECE_BYTES] * (len(sizes) - 1)
    assert sum(sizes) == 400_000
    blobs.put("k", iter(()))
    assert whole(blobs, "k") == b""


def test_a_second_put_replaces_the_first(blobs: BlobStore) -> None:
    blobs.put("a/b", [b"a long first ", b"version"])
    blobs.put("a/b", [b"second"])
    assert whole(blobs, "a/b") == b"second"


def test_a_blob_that_is_replaced_while_it_is_read_gives_one_version(blobs: BlobStore) -> None:
    blobs.put("k", [b"a" * 3 * PIECE_BYTES])
    pieces = blobs.read("k")
    assert pieces is not None
    first = next(pieces)
    blobs.put("k", [b"b" * 3 * PIECE_BYTES])
    assert {first, *pieces} == {b"a" * PIECE_BYTES}


def test_an_error_of_the_writer_leaves_the_blob_as_it_was(blobs: BlobStore, tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ProviderUnavailable("the source is gone")

    blobs.put("a/b", [b"old"])
    for key in ("a/b", "a/c"):
        with pytest.raises(ProviderUnavailable, match="the source is gone"):
            blobs.put(key, pieces())
    assert (whole(blobs, "a/b"), blobs.exists("a/c")) == (b"old", False)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 1


def test_what_was_never_put_is_not_found(blobs: BlobStore) -> None:
    blobs.put("a/b/c", [b"x"])
    for key in ("a", "a/b", "a/b/d", "z", "a/b/c/d"):
        assert blobs.read(key) is None
        assert not blobs.exists(key)


def test_deleting_is_repeatable_and_takes_nothing_else(blobs: BlobStore) -> None:
    blobs.put("a/b", [b"x"])
    blobs.put("a/c", [b"y"])
    for _ in range(2):
        blobs.delete("a/b")
    blobs.delete("never/there")
    assert (whole(blobs, "a/b"), whole(blobs, "a/c")) == (None, b"y")


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "..", "a/../../b", "a//b", "a/", ".hidden", "a/.b", "a\n", "a b", "ä", "a\0", "x" * 200],
)
def test_an_invalid_key_is_refused_by_every_method(blobs: BlobStore, key: str) -> None:
    for call in (
        functools.partial(blobs.put, key, [b""]),
        functools.partial(blobs.exists, key),
        functools.partial(blobs.read, key),
        functools.partial(blobs.delete, key),
    ):
        with pytest.raises(InvariantError):
            call()


def test_several_writers_of_one_key_leave_one_of_their_versions_whole(blobs: BlobStore) -> None:
    versions = [bytes([number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: blobs.put("k", [content]), versions * 3))
    assert whole(blobs, "k") in versions


def test_a_writer_that_dies_at_any_step_leaves_the_old_version_whole_and_no_part(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs")
    store.put("a/b", [b"old"])
    outcomes, parts = set(), 0
    for step in range(12):
        child = os.fork()
        if child == 0:
            sys.addaudithook(_dies_at(step))
            store.put("a/b", [b"new"] * 1000)
            os._exit(0)
        os.waitpid(child, 0)
        found = whole(store, "a/b")
        outcomes.add(found)
        assert found in (b"old", b"new" * 1000)
        parts = max(parts, len(list((tmp_path / "blobs/a").iterdir())) - 1)
        store.put("a/b", [b"old"])
        assert [path.name for path in (tmp_path / "blobs/a").iterdir()] == ["b"]
    assert len(outcomes) == 2
    assert parts == 1


def _dies_at(step: int) -> Any:
    left = step

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event in ("open", "os.rename", "os.mkdir"):
            if left == 0:
                os._exit(9)
            left -= 1

    return hook


def test_only_their_own_user_may_read_blobs(tmp_path: Path) -> None:
    FileBlobStore(tmp_path / "blobs").put("a/b", [b"secret"])
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "blobs").rglob("*")} == {0}
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0
