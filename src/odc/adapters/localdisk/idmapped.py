"""Idmapped mounts: a folder seen with its files' owners shifted from one range of ids to another.

The files on disk keep their owners. A process whose ids are in the second range, such as one of a box, reads and
writes them through the mount as if its own ids were stored. A file whose owner is outside the first range appears to
belong to `nobody`, and a process outside the second range cannot make files there.

The mapping of a mount is that of a user namespace. A short-lived child makes one for each mount, and it exists as long
as the mount. The mount gets its mapping and its flags before it is attached to a folder, so it is never visible without
them.

Source: mount_setattr(2), user_namespaces(7), linux/mount.h.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odc.adapters.localdisk.libc import system_call
from odc.domain.host_ids import ID_COUNT

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
"""Numbers of the system calls, on all architectures but alpha: libc has no functions for them before 2.36."""
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_NOSUID, _NODEV, _IDMAP = 0x2, 0x4, 0x100000
_CHILD_LIMIT_S = 10.0


class _MountAttr(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_idmapped(source: Path, target: Path, stored: int, seen: int) -> None:
    """Mount the folder at the target, `nosuid,nodev`, with ids from `stored` on seen as ids from `seen` on.

    Args:
        source: on a file system that has idmapped mounts; its mount is not idmapped.
        target: a folder.
        stored: first id of the range of the owners on disk.
        seen: first id of the range that they are seen in.

    Raises:
        OSError: it could not be mounted; nothing is mounted then.
    """
    with _idmapped_tree(source, stored, seen) as tree:
        system_call(_MOVE_MOUNT, target, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def has_idmapped_mounts(folder: Path) -> bool:
    """Whether the kernel and the folder's file system have idmapped mounts. Tries it, and leaves nothing mounted.

    Raises:
        OSError: no user namespace could be made.
    """
    with _user_namespace(0, ID_COUNT) as namespace:
        try:
            tree = _clone(folder)
        except OSError:
            return False
        try:
            _map(tree, namespace, folder)
        except OSError:
            return False
        finally:
            os.close(tree)
    return True


@contextmanager
def _idmapped_tree(source: Path, stored: int, seen: int) -> Iterator[int]:
    """Return the descriptor of a detached mount of the folder."""
    with _user_namespace(stored, seen) as namespace:
        tree = _clone(source)
        try:
            _map(tree, namespace, source)
            yield tree
        finally:
            os.close(tree)


def _clone(source: Path) -> int:
    return system_call(_OPEN_TREE, source, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC)


def _map(tree: int, namespace: int, path: Path) -> None:
    attributes = _MountAttr(attr_set=_IDMAP | _NOSUID | _NODEV, userns_fd=namespace)
    size = ctypes.sizeof(attributes)
    system_call(_MOUNT_SETATTR, path, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size)


@contextmanager
def _user_namespace(inside: int, outside: int) -> Iterator[int]:
    """The descriptor of a new user namespace that maps a range of its own ids to one of ours.

    A process with threads cannot leave its user namespace, so a child does. It answers once it is in the new one.
    """
    child = subprocess.Popen(
        ["unshare", "--user", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"\n")
        if not child.stdout.read(1):
            raise OSError(0, "no user namespace can be made: unshare --user fails")
        process = Path("/proc", str(child.pid))
        for name in ("uid_map", "gid_map"):
            (process / name).write_text(f"{inside} {outside} {ID_COUNT}\n")
        namespace = os.open(process / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield namespace
        finally:
            os.close(namespace)
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate(timeout=_CHILD_LIMIT_S)
