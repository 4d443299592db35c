"""Listings of homes that were made to be hard to list."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.builders import an_id
from tests.storage import MIB, folders_storage

from odc.adapters.localdisk.file_listing import list_below
from odc.control.file_listing import MAX_BYTES, encode_listing
from odc.ports.volumes import CUT, MOST_ENTRIES, FileEntry

CHILD = """
import resource, sys
from pathlib import Path
from odc.adapters.localdisk.file_listing import list_below
from odc.control.file_listing import encode_listing
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
text = encode_listing(list_below(Path(sys.argv[1])))
print(len(text), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def make_deep(top: Path, depth: int, names: int) -> None:
    """Folders with long names in each other, and in the last one so many files."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=folder)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    for number in range(names):
        os.close(os.open(f"{number:0200}", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)


def in_a_process(top: Path) -> tuple[int, int]:
    """Size of the listing, and by how much the process that made it grew."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(top)], capture_output=True, text=True, check=True)
    size, grown = done.stdout.split()
    return int(size), int(grown)


@pytest.mark.timeout(600)
def test_a_home_of_many_deep_names_is_listed_in_bounded_memory(tmp_path: Path) -> None:
    make_deep(tmp_path, 18, 150_000)
    size, grown = in_a_process(tmp_path)
    assert size <= MAX_BYTES
    assert grown < 100 * MIB


@pytest.mark.timeout(600)
def test_a_folder_of_very_many_names_is_listed_in_bounded_memory(tmp_path: Path) -> None:
    make_deep(tmp_path, 0, 300_000)
    entries = list(list_below(tmp_path))
    assert len(entries) == MOST_ENTRIES + 1
    assert entries[-1] == CUT
    assert [entry.path for entry in entries[:3]] == [f"{number:0200}" for number in range(3)]
    assert in_a_process(tmp_path)[1] < 100 * MIB


def test_a_listing_that_is_too_long_keeps_its_order_and_says_that_it_is_cut(tmp_path: Path) -> None:
    for folder in ("b", "a", "c"):
        (tmp_path / folder).mkdir()
        for name in ("2", "1", "3"):
            (tmp_path / folder / name).touch()
    whole = [entry.path for entry in list_below(tmp_path)]
    assert whole == ["a", "a/1", "a/2", "a/3", "b", "b/1", "b/2", "b/3", "c", "c/1", "c/2", "c/3"]
    for most in range(12):
        cut = list(list_below(tmp_path, most))
        assert len(cut) <= most + 1
        assert cut[-1] == CUT
        assert [entry.path for entry in cut[:-1]] == [path for path in whole if path in {e.path for e in cut}]
    assert [entry.path for entry in list_below(tmp_path, 12)] == whole


def test_a_listing_that_takes_too_long_is_cut(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert list(list_below(tmp_path, seconds=-1)) == [CUT]


def test_a_stored_listing_has_a_largest_size() -> None:
    entries = [FileEntry(path="x" * 100 + str(number), kind="f", size=1, mtime=2) for number in range(1000)]
    decode = msgspec.json.Decoder(list[FileEntry]).decode
    assert decode(encode_listing(entries)) == entries
    assert decode(encode_listing([])) == []
    text = encode_listing(entries, 5000)
    assert 4500 < len(text) <= 5000
    found = decode(text)
    assert found[-1] == CUT
    assert found[:-1] == entries[: len(found) - 1]
    assert decode(encode_listing(entries, 50)) == [CUT]


def test_a_copy_of_a_plain_folder_finds_every_changed_file_of_a_large_home(tmp_path: Path) -> None:
    with folders_storage(tmp_path / "disks") as storage:
        disk = an_id()
        storage.volumes.create(disk, 64 * MIB)
        home = storage.home(disk)
        names = ["#comment", " blank ", "line\nbreak", *(f"f{number}" for number in range(200))]
        for name in names:
            (home / name).write_text("old")
        (home / "linked").hardlink_to(home / "f0")
        storage.volumes.snapshot(disk, "s-1")
        for name in names:
            facts = (home / name).stat()
            (home / name).write_text("new")
            os.utime(home / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        storage.volumes.snapshot(disk, "s-2")
        copies = storage.root / "snapshots" / disk
        assert {(copies / "s-2" / name).read_text() for name in [*names, "linked"]} == {"new"}
        assert {(copies / "s-1" / name).read_text() for name in [*names, "linked"]} == {"old"}
