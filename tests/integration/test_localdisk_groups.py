"""Quota groups are read while other volumes are made and deleted."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.storage import MIB, btrfs_mount

from odc.adapters.localdisk.backends import Btrfs
from odc.adapters.localdisk.quota_groups import read_groups

pytestmark = [pytest.mark.btrfs]

VOLUMES = 120
"""So many that the program needs several calls to read their groups."""


@contextmanager
def others_change(backend: Btrfs, folder: Path) -> Iterator[None]:
    """Volumes are made, copied and deleted all the time."""
    over = threading.Event()

    def change() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            volume = folder / f"v{number}"
            backend.make(volume, 16 * MIB)
            if number >= 40:
                backend.delete(folder / f"v{number - 40}")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_the_size_of_a_volume_is_known_while_others_are_made_and_deleted(tmp_path: Path) -> None:
    with btrfs_mount(tmp_path / "disks") as folder:
        backend = Btrfs(folder)
        for number in range(VOLUMES):
            backend.make(folder / f"kept{number}", 16 * MIB)
        with others_change(backend, folder):
            for _ in range(100):
                assert backend.used_bytes(folder / "kept0") is not None
                assert read_groups(folder)
