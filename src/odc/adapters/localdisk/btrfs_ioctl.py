"""btrfs's ioctl calls that are needed to start a box: the `btrfs` program takes several milliseconds for each.

All functions raise OSError as the kernel answers: ENOSPC and EDQUOT for a full storage, EROFS for a read-only
one, ENOTTY for a path that is not on btrfs.

Source: linux/btrfs.h (structures and numbers), and btrfs-progs, which makes the same calls.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SUBVOLUME_INODE = 256
"""The top folder of every subvolume has this number (Source: btrfs(5))."""
_INO_LOOKUP, _LOOKUP_BYTES = 0xD0009412, 4096
_SUBVOL_CREATE, _NAME_BYTES = 0x5000940E, 4088
_GET_FLAGS, _SET_FLAGS, _READ_ONLY = 0x80089419, 0x4008941A, 1 << 1
_SUBVOL_INFO = 0x81F8943C
_INFO = struct.Struct("=Q256sQQQQ16s16s16s232x")
_INFO_READ_ONLY = 1 << 0
_QGROUP_ASSIGN, _QGROUP_CREATE, _QGROUP_LIMIT = 0x40189429, 0x4010942A, 0x8030942B
_LIMIT_REFERENCED = 1 << 0
_LEVEL_SHIFT = 48
"""A quota group `LEVEL/ID` is one number, with the level in its upper 16 bits."""


class Subvolume(NamedTuple):
    """btrfs's facts about a subvolume; `parent_uuid` is empty if it is not a snapshot."""

    uuid: str
    parent_uuid: str
    read_only: bool


def root_id(path: Path) -> int:
    """The number of the subvolume that holds this folder; unlike `btrfs subvolume list` it prints no users' names."""
    with _opened(path) as descriptor:
        answer = bytearray(struct.pack("QQ", 0, SUBVOLUME_INODE).ljust(_LOOKUP_BYTES, b"\0"))
        fcntl.ioctl(descriptor, _INO_LOOKUP, answer)
        return int(struct.unpack_from("Q", answer)[0])


def create_subvolume(path: Path) -> None:
    """Make an empty subvolume at a path where nothing is."""
    name = os.fsencode(path.name)
    if not 0 < len(name) < _NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    with _opened(path.parent) as descriptor:
        fcntl.ioctl(descriptor, _SUBVOL_CREATE, bytearray(struct.pack("q", 0) + name.ljust(_NAME_BYTES, b"\0")))


def read_subvolume(path: Path) -> Subvolume:
    """Return btrfs's facts about the subvolume at this path."""
    with _opened(path) as descriptor:
        answer = bytearray(_INFO.size)
        fcntl.ioctl(descriptor, _SUBVOL_INFO, answer)
    _, _, _, _, _, flags, own, parent, _ = _INFO.unpack(answer)
    return Subvolume(str(uuid.UUID(bytes=own)), _uuid_text(parent), bool(flags & _INFO_READ_ONLY))


def make_writable(path: Path) -> None:
    """Clear the flag that makes a subvolume read-only, which its owner may set without any right.

    A folder that is not a subvolume has no such flag, and stays as it is.
    """
    with _opened(path) as descriptor:
        if os.fstat(descriptor).st_ino != SUBVOLUME_INODE:
            return
        flags = struct.unpack("Q", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))[0]
        if flags & _READ_ONLY:
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("Q", flags & ~_READ_ONLY))


def limit_subvolume(path: Path, size_bytes: int) -> None:
    """Set the size limit of a subvolume; replaces an earlier limit. Quotas must be on."""
    with _opened(path) as descriptor:
        # Group 0 means the subvolume's own. Source: btrfs_ioctl_qgroup_limit in fs/btrfs/ioctl.c.
        fcntl.ioctl(
            descriptor, _QGROUP_LIMIT, bytearray(struct.pack("QQQQQQ", 0, _LIMIT_REFERENCED, size_bytes, 0, 0, 0))
        )


def create_group(anywhere: Path, number: int) -> None:
    """Create the quota group `1/NUMBER` of this folder's file system unless it exists."""
    with _opened(anywhere) as descriptor:
        _ignoring_exists(descriptor, _QGROUP_CREATE, struct.pack("QQ", 1, _first_level(number)))


def assign_group(anywhere: Path, member: int, number: int) -> None:
    """Add the subvolume of this number to the quota group `1/NUMBER` unless it is a member. Nothing is recounted: the
    subvolume must be empty.
    """
    with _opened(anywhere) as descriptor:
        _ignoring_exists(descriptor, _QGROUP_ASSIGN, struct.pack("QQQ", 1, member, _first_level(number)))


def _first_level(number: int) -> int:
    return (1 << _LEVEL_SHIFT) | number


def _ignoring_exists(descriptor: int, call: int, argument: bytes) -> None:
    try:
        fcntl.ioctl(descriptor, call, bytearray(argument))
    except FileExistsError:
        return


def _uuid_text(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw)) if any(raw) else ""


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
