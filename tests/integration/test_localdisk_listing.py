"""Listings of homes that were made to be hard to list."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders import an_id
from tests.storage import MIB, folders_storage, made, taken

from odc.adapters.localdisk.file_listing import MOST_OPEN, list_below
from odc.domain.file_listing import CUT, MAX_BYTES

CHILD = """
import resource, sys
from pathlib import Path
from odc.adapters.localdisk.blob_store import FileBlobStore
from odc.adapters.localdisk.file_listing import list_below
from odc.domain.file_listing import encode_listing
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
FileBlobStore(Path(sys.argv[2])).put("listing", encode_listing(list_below(Path(sys.argv[1]))))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
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


def in_a_process(top: Path, blobs: Path) -> tuple[int, int]:
    """Size of the stored listing, and by how much the process that made it grew."""
    command = [sys.executable, "-c", CHILD, str(top), str(blobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (blobs / "listing").stat().st_size, int(done.stdout)


@pytest.mark.timeout(600)
def test_a_home_of_many_deep_names_is_listed_in_bounded_memory(tmp_path: Path) -> None:
    make_deep(tmp_path, 18, 150_000)
    size, grown = in_a_process(tmp_path, tmp_path / "blobs")
    assert size <= MAX_BYTES
    assert grown < 50 * MIB


@pytest.mark.timeout(600)
def test_a_folder_of_very_many_names_is_listed_in_bounded_memory(tmp_path: Path) -> None:
    top = tmp_path / "home"
    top.mkdir()
    make_deep(top, 0, 300_000)
    names = {entry.path for entry in list_below(top)}
    assert names == {f"{number:0200}" for number in range(300_000)}
    assert in_a_process(top, tmp_path / "blobs")[1] < 50 * MIB


def make_tree(top: Path) -> None:
    for folder in ("b", "a", "c"):
        (top / folder).mkdir()
        for name in ("2", "1", "3"):
            (top / folder / name).touch()


def test_a_listing_is_in_the_order_of_names_as_long_as_they_fit_in_memory(tmp_path: Path) -> None:
    make_tree(tmp_path)
    whole = [entry.path for entry in list_below(tmp_path)]
    assert whole == ["a", "a/1", "a/2", "a/3", "b", "b/1", "b/2", "b/3", "c", "c/1", "c/2", "c/3"]
    for kept in range(12):
        found = [entry.path for entry in list_below(tmp_path, kept=kept)]
        assert sorted(found) == whole, "folders that are not sorted are complete all the same"
        for folder in "abc":
            start = found.index(folder)
            assert {path[0] for path in found[start : start + 4]} == {folder}, "a folder is followed by its contents"
    assert [entry.path for entry in list_below(tmp_path, kept=12)] == whole


def test_folders_that_are_too_large_and_within_each_other_use_few_descriptors_and_the_listing_is_cut(
    tmp_path: Path,
) -> None:
    folder = tmp_path
    for _ in range(MOST_OPEN + 4):
        (folder / "file").touch()
        folder = folder / "d"
        folder.mkdir()
    found = list(list_below(tmp_path, kept=0))
    assert found[-1] == CUT
    assert sum(entry.kind == "d" for entry in found) == MOST_OPEN
    assert CUT not in list_below(tmp_path)


def test_a_listing_that_takes_too_long_is_cut(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert list(list_below(tmp_path, seconds=-1)) == [CUT]


def test_a_copy_of_a_plain_folder_finds_every_changed_file_of_a_large_home(tmp_path: Path) -> None:
    with folders_storage(tmp_path / "disks") as storage:
        disk = an_id()
        made(storage.volumes, disk, 64 * MIB)
        home = storage.home(disk)
        names = ["#comment", " blank ", "line\nbreak", *(f"f{number}" for number in range(200))]
        for name in names:
            (home / name).write_text("old")
        (home / "linked").hardlink_to(home / "f0")
        taken(storage.volumes, disk, "s-1")
        for name in names:
            facts = (home / name).stat()
            (home / name).write_text("new")
            os.utime(home / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        taken(storage.volumes, disk, "s-2")
        copies = storage.root / "snapshots" / disk
        assert {(copies / "s-2" / name).read_text() for name in [*names, "linked"]} == {"new"}
        assert {(copies / "s-1" / name).read_text() for name in [*names, "linked"]} == {"old"}
