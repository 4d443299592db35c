"""What `odc disk prune` says when nothing is left to delete."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from odc.api.messages.storage import DiskUseView, StorageView
from odc.operator import disks


@pytest.mark.parametrize(
    ("deleting", "told"), [(0, "No snapshot can be deleted"), (1, "1 snapshot is being"), (3, "3 snapshots are being")]
)
def test_while_snapshots_are_being_deleted_a_prune_says_so(deleting: int, told: str) -> None:
    disk = DiskUseView(id="a" * 32, name="proj", owner="ada", size_bytes=2**30, deleting=deleting)
    view = StorageView(
        now=datetime.now(UTC),
        level="low",
        total_bytes=2**40,
        free_bytes=2**30,
        sizes_bytes=2**40,
        settling=deleting > 0,
        disks=(disk,),
        problems=(),
    )
    lines: list[str] = []
    disks._say_nothing(view, lines.append)
    assert lines[0].startswith(told)
    assert any("let users delete files" in line for line in lines) == (deleting == 0)
