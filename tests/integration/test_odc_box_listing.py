"""The listing that `odc-box` writes to a log, read back as the Kubernetes adapter reads it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from tests.box_root import Root

from odc.adapters.kubernetes.volume_listing import entries_of
from odc.domain.errors import ProviderUnavailable
from odc.domain.file_listing import CUT, FileEntry

MOST = 1_000_000


def listed(root: Root, most: int = MOST) -> Iterator[FileEntry]:
    done = root.run("listing", str(most))
    assert (done.returncode, done.stderr) == (0, "")
    return entries_of(done.stdout.encode(), most)


def test_files_go_by_path_with_kind_size_and_time_and_without_the_marker(root: Root) -> None:
    for path in ("b/z", "b/a", "a.txt", "b-c", "b\x01c", ".odd name\n", "deep" + "/d" * 200 + "/f"):
        root.put(f"home/dev/{path}", "12345")
    (root.home / "link").symlink_to("a.txt")
    os.mkfifo(root.home / "pipe")
    os.utime(root.home / "a.txt", (981158400.9, 981158400.9))
    (root.home / os.fsdecode(b"latin-\xe9")).touch()
    found = [one for one in listed(root) if "/d" not in one.path and one.kind != "d"]
    assert [one.path for one in found] == [
        ".odd name\n", "a.txt", "b/a", "b/z", "b-c", "b\x01c", "latin-\ufffd", "link", "pipe"
    ]  # fmt: skip
    assert {one.path: one.kind for one in found if one.kind != "f"} == {"link": "l", "pipe": "o"}
    assert found[1] == FileEntry(path="a.txt", kind="f", size=5, mtime=981158400)
    assert len([one for one in listed(root) if one.path.startswith("deep")]) == 202


def test_an_empty_home_has_an_empty_listing(root: Root) -> None:
    shutil.rmtree(root.home)
    root.put("home/dev/.odc-disk", "d-1\n")
    assert list(listed(root)) == []


def test_a_listing_that_is_too_long_is_cut_at_its_end(root: Root) -> None:
    for number in range(3000):
        (root.home / f"{os.urandom(16).hex()}-{number}").touch()
    found = list(listed(root, 40_000))
    assert (500 < len(found) < 2999, found[-1]) == (True, CUT)
    assert found[:-1] == sorted(found[:-1], key=lambda one: one.path)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_log_that_lost_its_end_is_not_taken_for_whole(root: Root, kept: float) -> None:
    for _ in range(500):
        (root.home / os.urandom(16).hex()).touch()
    log = root.run("listing", str(MOST)).stdout.encode()
    with pytest.raises(ProviderUnavailable, match="listing"):
        list(entries_of(log[: int(len(log) * kept) // 4 * 4]))


def test_an_image_without_find_is_refused(root: Root) -> None:
    # The shell itself is found by this variable too.
    shell = shutil.which(root.shell[0])
    assert shell
    (root.path / "bin").mkdir()
    (root.path / "bin" / root.shell[0]).symlink_to(shell)
    done = root.run("listing", str(MOST), PATH=str(root.path / "bin"))
    assert (done.returncode, done.stdout) == (69, "")
