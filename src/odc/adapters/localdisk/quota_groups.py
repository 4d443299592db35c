"""Usage of the storage by disks, from btrfs's quota groups and from the file systems.

Each subvolume has a quota group `0/ID` of its own. A disk's home and snapshots are also members of the group `1/ID`,
ID being the home's: data that its members share counts there once, so it is the disk's total usage.
Older kernels would have to count the whole file system again for every snapshot in a group: there, such groups are not
used, and data that only several snapshots share is not counted.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from odc.adapters.localdisk.btrfs_file import file_of, mounted_file
from odc.adapters.localdisk.btrfs_ioctl import assign_group, create_group, root_id
from odc.adapters.localdisk.errors import GroupsChanged, QuotasOff
from odc.adapters.localdisk.programs import LIMIT_S, run
from odc.domain.errors import ProviderUnavailable
from odc.domain.storage import DiskUse, StorageUse

log = logging.getLogger(__name__)

_GROUP = re.compile(r"(\d+/\d+)\s+(\d+)\s+(\d+)\s+(\d+|none)\s+(\S+)")
_FS_INFO = 0x8400941F
_INFO_BYTES = 1024
_MOST_LEVELS = 8
"""Of a tree of btrfs. Source: linux/btrfs_tree.h, BTRFS_MAX_LEVEL."""
COUNT_PAUSE_S = 60.0
"""The least time in seconds from the end of one new count to the next."""
COUNT_SHARE = 10
"""At most this part (one tenth) of the time is spent on counting."""
READS = 5
"""Times that the groups are read while others change."""
FIRST_WITH_GROUPS = (6, 9)
"""The kernel from which a snapshot joins its volume's group without a new count (btrfs: "allow quick inherit")."""


def has_groups() -> bool:
    """Whether this kernel counts groups of snapshots at no cost."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= FIRST_WITH_GROUPS


def group_of(home: Path) -> str:
    """The quota group of a disk, named after its home."""
    return f"1/{root_id(home)}"


def join_group(home: Path) -> None:
    """Put a home into its disk's group; make the group first. Repeatable.

    A disk that cannot have its group works all the same, and is measured without it.
    """
    number = root_id(home)
    with suppress(OSError):
        create_group(home, number)
        assign_group(home, number, number)


def measure_space(root: Path) -> tuple[int, int]:
    """Return the size of the storage, and the bytes that can still be written; for a sparse file, limited by the host's
    free space.
    """
    space = shutil.disk_usage(root)
    free = space.free
    if mounted_file(root) is not None:
        file = file_of(root)
        unused = max(file.stat().st_blocks * 512 - space.used, 0)
        free = min(free, shutil.disk_usage(file.parent).free + unused)
    return space.total, free


class Group(NamedTuple):
    """A quota group: bytes that are referenced, and of those only by it; its limit, 0 for none; its parent."""

    referenced: int
    exclusive: int
    limit: int
    parent: str


def show_groups(options: str, path: Path, limit_s: float = LIMIT_S) -> list[str]:
    """Return the lines of `btrfs qgroup show` with these options.

    The program always reads all groups of the file system, in several calls and not as of one moment: first the groups,
    then which group is a member of which. It fails if a group is made in between and joins another one. Then it is run
    again at once, up to `READS` times.
    Source: btrfs-progs, cmds/qgroup.c (`update_qgroup_relation`).

    Raises:
        GroupsChanged: the groups changed during each read.
        QuotasOff: they are.
        ProviderUnavailable: btrfs did not answer in so many seconds.
    """
    for _ in range(READS - 1):
        with suppress(GroupsChanged):
            return run("btrfs", "qgroup", "show", "--raw", options, str(path), limit_s=limit_s).splitlines()
    return run("btrfs", "qgroup", "show", "--raw", options, str(path), limit_s=limit_s).splitlines()


def read_groups(root: Path, limit_s: float = LIMIT_S) -> dict[str, Group]:
    """Every quota group of a file system by its name.

    Raises:
        QuotasOff: they are.
        ProviderUnavailable: btrfs did not answer in so many seconds, or the groups changed during each read.
    """
    lines = show_groups("-pr", root, limit_s)
    found = (_GROUP.match(line) for line in lines)
    return {line[1]: _group(line) for line in found if line}


class Counts:
    """Reads btrfs's counts."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._deleted: set[int] = set()
        self._adopted: set[int] = set()
        self._count_began: float | None = None
        self._count_after = 0.0

    def measure(self) -> StorageUse:
        """Return the usage of each disk, as of the last commit of the file system; empty while btrfs counts again."""
        total, free = measure_space(self._root)
        groups = self._groups()
        disks, strangers = {}, []
        for folder in _folders(self._root / "volumes"):
            with suppress(OSError):  # half made, or deleted meanwhile
                home = root_id(folder / "home")
                snapshots = self._snapshots_of(folder.name)
                disks[folder.name] = _use_of(home, snapshots, groups)
                members = (home, *snapshots.values())
                strangers += [(one, home) for one in members if _is_outside(one, home, groups)]
        uncounted = has_groups() and self._adopt([pair for pair in strangers if pair[0] not in self._adopted])
        known = {} if uncounted or self._is_counting() else disks
        return StorageUse(total_bytes=total, free_bytes=free, disks=known, settling=self._is_settling())

    def note_deleted(self, number: int) -> None:
        """A subvolume was deleted; btrfs frees its space in the background."""
        self._deleted.add(number)

    def _snapshots_of(self, disk_id: str) -> dict[str, int]:
        found = {}
        for folder in _folders(self._root / "snapshots" / disk_id):
            with suppress(OSError):
                found[folder.name] = root_id(folder)
        return found

    def _groups(self) -> dict[str, Group]:
        """Every quota group by its name. If quotas were turned off the result is empty, and they are turned on
        again.
        """
        try:
            return read_groups(self._root)
        except QuotasOff as error:
            log.warning("quotas were off; turning them on", extra={"folder": str(self._root), "reason": error.message})
            self._adopted.clear()
            enable_quotas(self._root)
            return {}

    def _adopt(self, strangers: list[tuple[int, int]]) -> bool:
        """Add subvolumes of disks that were made without groups to their groups, each once; return whether btrfs counts
        again.
        """
        for member, home in strangers:
            self._adopted.add(member)
            with suppress(ProviderUnavailable):  # it is there already
                run("btrfs", "qgroup", "create", f"1/{home}", str(self._root))
            with suppress(ProviderUnavailable):  # deleted meanwhile
                run("btrfs", "qgroup", "assign", "--no-rescan", f"0/{member}", f"1/{home}", str(self._root))
        if strangers:
            with suppress(ProviderUnavailable):  # it counts already
                run("btrfs", "quota", "rescan", str(self._root))
        return bool(strangers)

    def _is_settling(self) -> bool:
        """Whether space of deleted snapshots is not free yet."""
        if not self._deleted:
            return False
        lines = run("btrfs", "subvolume", "list", "-d", str(self._root)).splitlines()
        waiting = {int(words[1]) for line in lines if len(words := line.split()) > 1 and words[1].isdigit()}
        if self._deleted <= waiting:
            return True
        self._deleted &= waiting
        # Freed space can be used and is counted after the commit; the next measurement includes it.
        run("btrfs", "filesystem", "sync", str(self._root))
        if mounted_file(self._root) is not None:
            with suppress(ProviderUnavailable):  # return the file's unused blocks to the host
                run("fstrim", str(self._root))
        return True

    def _is_counting(self) -> bool:
        """Whether the numbers of disks are wrong for now: btrfs counts again, or has to and is asked to."""
        if run("btrfs", "quota", "rescan", "-s", str(self._root)).startswith("rescan operation running"):
            return True
        self._note_counted()
        states = Path("/sys/fs/btrfs").glob(f"{_uuid(self._root)}/qgroups/inconsistent")
        if not any(path.read_text().strip() == "1" for path in states):
            return False
        # Until it has counted, btrfs adds nothing up, so no disk has a limit. Counting reads all of the file system's
        # records, so on a large one it is not done after each deletion that makes it needed.
        if time.monotonic() >= self._count_after:
            self._count_began = time.monotonic()
            log.warning("btrfs recounts the use of disks", extra={"folder": str(self._root)})
            with suppress(ProviderUnavailable):
                run("btrfs", "quota", "rescan", str(self._root))
        return True

    def _note_counted(self) -> None:
        """Nothing is being counted now: decide from how long the last count took when the next one may begin."""
        if self._count_began is not None:
            took = time.monotonic() - self._count_began
            self._count_after = time.monotonic() + max(COUNT_PAUSE_S, took * COUNT_SHARE)
            self._count_began = None


def enable_quotas(root: Path) -> None:
    """Turn quotas on, which changes nothing where they are on, and let btrfs count every deletion, however large.

    By itself it gives up counting when a very large snapshot is deleted. Then no disk has a limit until it has counted
    again, and those in groups not even afterwards (seen with Linux 6.18).
    """
    run("btrfs", "quota", "enable", str(root))
    # An older kernel has no such file and never gives up.
    with suppress(OSError):
        Path(f"/sys/fs/btrfs/{_uuid(root)}/qgroups/drop_subtree_threshold").write_text(str(_MOST_LEVELS))


def _uuid(root: Path) -> str:
    """The file system's id. Source: linux/btrfs.h, BTRFS_IOC_FS_INFO."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return str(uuid.UUID(bytes=fcntl.ioctl(descriptor, _FS_INFO, bytes(_INFO_BYTES))[16:32]))
    finally:
        os.close(descriptor)


def _use_of(home: int, snapshots: dict[str, int], groups: dict[str, Group]) -> DiskUse:
    live = groups.get(f"0/{home}")
    alone = {name: groups[f"0/{number}"].exclusive for name, number in snapshots.items() if f"0/{number}" in groups}
    if live is None:
        return DiskUse(snapshots=alone)
    in_all = groups.get(f"1/{home}")
    total = max(in_all.exclusive, live.referenced) if in_all else live.referenced + sum(alone.values())
    return DiskUse(live_bytes=live.referenced, total_bytes=total, limit_bytes=live.limit, snapshots=alone)


def _group(line: re.Match[str]) -> Group:
    limit = 0 if line[4] == "none" else int(line[4])
    return Group(referenced=int(line[2]), exclusive=int(line[3]), limit=limit, parent=line[5])


def _is_outside(member: int, home: int, groups: dict[str, Group]) -> bool:
    return f"0/{member}" in groups and groups[f"0/{member}"].parent != f"1/{home}"


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
