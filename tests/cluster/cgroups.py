"""The cgroups of a test cluster's nodes: each has a root of its own, under every controller with cgroup v1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.cluster.layout import Node
from tests.waiting import eventually

ROOT = Path("/sys/fs/cgroup")


def create(node: Node) -> None:
    """Make the folders that the kubelet takes as its root."""
    for folder in folders(node):
        folder.mkdir(exist_ok=True)
        if folder.parent == ROOT:
            controllers = (ROOT / "cgroup.controllers").read_text().split()
            (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        for name in ("cpuset.cpus", "cpuset.mems"):
            # With cgroup v1 a new folder has neither, and takes no process before it does.
            if folder.parent != ROOT and (folder / name).exists():
                (folder / name).write_text((folder.parent / name).read_text())


def remove(node: Node) -> None:
    """Remove them with everything below; their processes must have been killed."""
    eventually(f"the cgroups of {node.name} are empty", lambda: not any(_remains(node)))


def _remains(node: Node) -> Iterator[Path]:
    for folder in folders(node):
        for below, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):
                Path(below).rmdir()
        if folder.exists():
            yield folder


def folders(node: Node) -> list[Path]:
    """Its root under every controller."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT / node.part]
    # Links are other names of a controller.
    return [path / node.part for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]
