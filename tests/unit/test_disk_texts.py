"""What `odc disk list` shows, and what `odc disk prune` says when nothing is left to delete."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from odc.api.messages.storage import DiskUseView, StorageView
from odc.operator import disks


def storage(*held: DiskUseView, settling: bool = False) -> StorageView:
    return StorageView(
        now=datetime.now(UTC),
        level="low",
        total_bytes=2**40,
        free_bytes=2**30,
        sizes_bytes=2**40,
        settling=settling,
        disks=held,
        problems=(),
    )


@pytest.mark.parametrize(
    ("deleting", "told"), [(0, "No snapshot can be deleted"), (1, "1 snapshot is being"), (3, "3 snapshots are being")]
)
def test_while_snapshots_are_being_deleted_a_prune_says_so(deleting: int, told: str) -> None:
    disk = DiskUseView(id="a" * 32, name="proj", owner="ada", size_bytes=2**30, deleting=deleting)
    lines: list[str] = []
    disks._say_nothing(storage(disk, settling=deleting > 0), lines.append)
    assert lines[0].startswith(told)
    assert any("let users delete files" in line for line in lines) == (deleting == 0)


def test_a_list_of_disks_names_the_reservations_that_use_them() -> None:
    named = DiskUseView(id="a" * 32, name="one", owner="ada", size_bytes=2**30, holder="b" * 32, holder_name="train")
    unknown = DiskUseView(id="c" * 32, name="two", owner="ada", size_bytes=2**30, holder="d" * 32)
    free = DiskUseView(id="e" * 32, name="three", owner="ada", size_bytes=2**30)
    rows = {line.split()[0]: line.split()[-2] for line in disks.overview(storage(named, unknown, free))[-3:]}
    assert rows == {"one": "train", "two": "d" * 8, "three": "-"}


def test_a_list_of_disks_counts_one_disk_as_one() -> None:
    disk = DiskUseView(id="a" * 32, name="one", owner="ada", size_bytes=2**30)
    assert disks.overview(storage(disk))[1] == "1 disk may hold 1024 GiB together"
    assert disks.overview(storage(disk, disk))[1] == "2 disks may hold 1024 GiB together"
