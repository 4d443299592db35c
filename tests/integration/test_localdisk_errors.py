"""Each error class of the disk storage, as a real btrfs and the real programs cause it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage import MIB, btrfs_mount

from odc.adapters.localdisk.backends import Btrfs
from odc.adapters.localdisk.errors import InUse, QuotasOff, StorageFull, StorageReadOnly, storage_errors
from odc.adapters.localdisk.mounts import unmount
from odc.adapters.localdisk.programs import run
from odc.adapters.localdisk.quota_groups import read_groups

pytestmark = pytest.mark.btrfs


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Path]:
    with btrfs_mount(tmp_path / "disks") as folder:
        yield folder


def test_a_quota_that_is_used_up(disks: Path) -> None:
    backend = Btrfs(disks)
    backend.make(disks / "one", 16 * MIB)
    with pytest.raises(StorageFull), storage_errors("writing"):
        (disks / "one" / "file").write_bytes(bytes(32 * MIB))
    with pytest.raises(StorageFull):
        run("dd", "if=/dev/zero", f"of={disks}/one/other", "bs=1M", "count=32")


def test_a_file_system_that_is_read_only(disks: Path) -> None:
    backend = Btrfs(disks)
    subprocess.run(["mount", "-o", "remount,ro", disks], check=True)
    with pytest.raises(StorageReadOnly):
        backend.make(disks / "one", 16 * MIB)
    with pytest.raises(StorageReadOnly):
        run("btrfs", "subvolume", "create", str(disks / "one"))


def test_a_mount_that_is_in_use(disks: Path) -> None:
    with (disks / "file").open("w"), pytest.raises(InUse, match="used by process"):
        unmount(disks)


def test_quotas_that_are_off(disks: Path) -> None:
    with pytest.raises(QuotasOff):
        read_groups(disks)
    Btrfs(disks)
    assert "0/5" in read_groups(disks)
