"""The kernel's table of mounts, and who still uses one. Nothing is cached, so restarts change nothing."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from odc.adapters.localdisk.errors import InUse
from odc.adapters.localdisk.libc import call
from odc.adapters.localdisk.programs import run
from odc.domain.errors import ProviderUnavailable
from odc.host import POLL_S

_OCTAL = re.compile(rb"\\([0-7]{3})")
_NAMED = 3
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_PRIVATE, _MNT_DETACH = 1 << 1, 1 << 2, 1 << 5, 1 << 12, 1 << 18, 2
"""Source: mount(2) and umount(2), linux/mount.h."""


class Mount(NamedTuple):
    """One mount.

    Attributes:
        target: where it is seen.
        device: `major:minor` of its file system.
        source: its top folder, as a path inside that file system.
        options: of this mount, such as `nosuid`.
        kind: the file system's type.
        origin: the device of the file system, such as `/dev/loop0`.
        number: of this mount.
        parent: number of the mount in which its target is.
    """

    target: Path
    device: str
    source: Path
    options: frozenset[str]
    kind: str
    origin: str
    number: int
    parent: int


def read_mounts(process: str = "self") -> list[Mount]:
    """Every mount that a process sees, in the order in which they were made."""
    lines = Path(f"/proc/{process}/mountinfo").read_bytes().splitlines()
    return [_parse(line) for line in lines]


def _parse(line: bytes) -> Mount:
    """Source: proc(5), `/proc/[pid]/mountinfo`."""
    left, _, right = line.partition(b" - ")
    words, rest = left.split(b" "), right.split(b" ")
    options = frozenset(words[5].decode().split(","))
    kind, origin = rest[0].decode(errors="replace"), os.fsdecode(_plain(rest[1]))
    target, source = _path(words[4]), _path(words[3])
    return Mount(target, words[2].decode(), source, options, kind, origin, int(words[0]), int(words[1]))


def find_mount(target: Path) -> Mount | None:
    """The mount at exactly this folder, the last one if there are several; None if nothing is mounted there."""
    return next((mount for mount in reversed(read_mounts()) if mount.target == target), None)


def _plain(text: bytes) -> bytes:
    """Decode the kernel's escapes: blanks and the like are a backslash and three octal digits."""
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), text)


def _path(text: bytes) -> Path:
    return Path(os.fsdecode(_plain(text)))


def bind(source: Path, target: Path) -> None:
    """Show the folder at the target, to this mount namespace only. The mount program would take 4 ms.

    Raises:
        OSError: it could not be mounted.
    """
    _mount(source, target, _MS_BIND)
    _mount(None, target, _MS_PRIVATE)


def make_safe(target: Path) -> None:
    """Make a bind mount `nosuid,nodev`, and private. Repeatable: its maker may have ended between the two.

    Raises:
        OSError: it could not be done.
    """
    _mount(None, target, _MS_REMOUNT | _MS_BIND | _MS_NOSUID | _MS_NODEV)
    _mount(None, target, _MS_PRIVATE)


def unmount_unused(target: Path) -> None:
    """Unmount, unless it is used or something is mounted below it.

    Raises:
        OSError: it could not be unmounted.
    """
    call("umount2", target, os.fsencode(target), 0)


def detach(target: Path) -> None:
    """As `umount --lazy`: for a mount that nothing writes to any more, even if processes still read it.

    Raises:
        OSError: it could not be unmounted, as when nothing is mounted there.
    """
    call("umount2", target, os.fsencode(target), _MNT_DETACH)


def _mount(source: Path | None, target: Path, flags: int) -> None:
    from_ = None if source is None else os.fsencode(source)
    call("mount", target, from_, os.fsencode(target), None, flags, None)


def unmount(target: Path, patience_s: float = 0.0) -> None:
    """Unmount.

    Args:
        target: the mount point.
        patience_s: how long to wait for programs that use it, such as one of btrfs that the daemon left running.

    Raises:
        InUse: the message names what uses it.
        ProviderUnavailable: it could not be unmounted, as when nothing is mounted there.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            run("umount", str(target))
        except InUse as error:
            if time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            users = ", ".join(_users(target))
            raise InUse(f"{target.name} is still used by {users}" if users else error.message) from error
        return


def _users(target: Path) -> list[str]:
    """The first few processes that have their working folder or an open file in it: `process 12 (vim)`."""
    found = []
    for process in _processes():
        links = [process / "cwd", process / "root", *_inside(process / "fd")]
        if any(_is_below(link, target) for link in links):
            found.append(_name(process))
        if len(found) == _NAMED:
            break
    return found


def seen_elsewhere(mount: Mount) -> str | None:
    """Return a process in another mount namespace, such as a box's, that sees this mount's files; None if there is
    none.

    The same source at the same target is only a copy of our table, which every new container has for a moment.
    """
    for process, others in _other_tables():
        for other in others:
            if other.device == mount.device and other.source == mount.source and other.target != mount.target:
                return _name(process)
    return None


def unmount_copies(folder: Path) -> None:
    """Unmount the copies of mounts at and below the folder that are in other processes' mount namespaces.

    The engine's monitor of a box keeps the mounts that existed when the box was started, including those of other
    clouds, until that box ends. If the host does not share its mounts, as without systemd, a file system that we
    unmount stays in use there, and one that stopped after an error stays active. A box's own mounts are not copies: its
    root is different.
    """
    for process, others in _other_tables():
        if not _has_our_root(process):
            continue
        for copy in reversed(others):
            if copy.target.is_relative_to(folder):
                with suppress(ProviderUnavailable):  # the process has ended, and its table with it
                    run("nsenter", f"--mount={process}/ns/mnt", "umount", "--lazy", str(copy.target))


def _has_our_root(process: Path) -> bool:
    """Whether the process has the same root folder as this one."""
    try:
        return (process / "root").samefile("/")
    except OSError:
        return False


def _other_tables() -> Iterator[tuple[Path, list[Mount]]]:
    """Every other table of mounts on the machine, with one of the processes that see it."""
    looked_at = {Path("/proc/self/ns/mnt").stat().st_ino}
    for process in _processes():
        try:
            namespace = (process / "ns/mnt").stat().st_ino
            if namespace in looked_at:
                continue
            looked_at.add(namespace)
            mounts = read_mounts(process.name)
        except OSError:
            # It has ended meanwhile.
            continue
        yield process, mounts


def _processes() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_below(link: Path, folder: Path) -> bool:
    try:
        return Path(os.readlink(link)).is_relative_to(folder)  # noqa: PTH115  # the raw words, not what they lead to
    except OSError:
        return False


def _name(process: Path) -> str:
    try:
        words = (process / "comm").read_text(errors="replace").strip()
    except OSError:
        words = "ended"
    return f"process {process.name} ({words})"
