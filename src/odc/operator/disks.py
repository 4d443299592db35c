"""`odc disk`: usage of the disk storage by user, and deleting older snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from odc.api.client import Client
from odc.api.hints import message_of
from odc.api.messages.storage import DiskUseView, StorageView
from odc.api.problem_views import wordings
from odc.domain.commands import odc
from odc.domain.errors import ProviderUnavailable
from odc.domain.requests import PruneSnapshots, RecoverDisk
from odc.domain.storage import gib_text
from odc.operator.settings import Settings

Say = Callable[[str], None]
Confirm = Callable[[str], None]
WAIT = timedelta(minutes=10)
PAUSE_S = 0.5
_USERS = ("USER", "DISKS", "FILES", "SNAPSHOTS", "TOTAL")
_DISKS = ("DISK", "USER", "SIZE", "FILES", "SNAPSHOTS", "KEPT", "IN USE BY", "ID")
_GOING = ("SNAPSHOT", "USER", "DISK", "TAKEN", "FILES", "FREES AT LEAST")


def read_storage(
    settings: Settings, keep: int = 1, owner: str = "", disk: str = "", timeout_s: float | None = None
) -> StorageView:
    """Return the storage as the daemon measured it last; the time limit is that of `Client`.

    Raises:
        OdcError: the ODC daemon does not answer, or the caller is not an operator.
    """
    client = Client(settings.socket, timeout_s=timeout_s)
    try:
        return client.storage(keep, owner, disk)
    finally:
        client.close()


def overview(view: StorageView) -> list[str]:
    """Return the lines of `odc disk list`."""
    lines = [space_text(view), overcommit_text(view), ""]
    if not view.disks:
        return [*lines[:1], "There is no disk yet."]
    lines += [*_table(_USERS, _by_user(view.disks)), "", *_table(_DISKS, map(_disk_row, view.disks))]
    if any(disk.snapshots[:-1] for disk in view.disks):
        lines += ["", "Delete older snapshots: " + odc("disk prune --dry-run")]
    return [*lines, *("warning: " + problem.line for problem in wordings(view.problem_details, view.problems))]


def space_text(view: StorageView) -> str:
    """Return the line about the storage's usage."""
    return f"Disk storage: {gib_text(view.free_bytes)} of {gib_text(view.total_bytes)} free"


def overcommit_text(view: StorageView) -> str:
    """Return the line that compares the limits of all disks with the size of the storage."""
    count = "1 disk" if len(view.disks) == 1 else f"{len(view.disks)} disks"
    text = f"{count} may hold {gib_text(view.sizes_bytes)} together"
    if view.sizes_bytes > view.total_bytes > 0:
        return f"{text}: {view.sizes_bytes / view.total_bytes:.1f} times what the storage has"
    return text


def prune(settings: Settings, asked: PruneSnapshots, dry_run: bool, confirm: Confirm, say: Say) -> None:
    """Show which snapshots go, ask, have them deleted, and wait until their space is free.

    Args:
        settings: of the cloud.
        asked: which snapshots.
        dry_run: only show them.
        confirm: asks the operator; raises if the answer is no.
        say: called with each line.

    Raises:
        OdcError: the ODC daemon does not answer, or the caller is not an operator; or it was refused.
    """
    client = Client(settings.socket)
    try:
        before = client.storage(asked.keep, asked.owner, asked.disk)
        going = [row for disk in before.disks for row in _going_rows(disk)]
        if not going:
            _say_nothing(before, say)
            return
        for line in _table(_GOING, going):
            say(line)
        count = f"{len(going)} snapshot{'s' if len(going) > 1 else ''}"
        say(f"{count}; the newest verified one of each disk is kept. {space_text(before)}.")
        if dry_run:
            return
        confirm(f"this deletes {count}")
        say(message_of(client.prune_snapshots(asked)))
        after = _wait(client)
        freed = max(after.free_bytes - before.free_bytes, 0)
        say(f"Freed {gib_text(freed)}. {space_text(after)}.")
    finally:
        client.close()


def recover(settings: Settings, asked: RecoverDisk, say: Say) -> None:
    """Give a disk its record back, or every disk that needs no further information.

    Raises:
        OdcError: the daemon is away, the caller is not an operator, or it is not clear which disk is meant. Some
            disks remain for which more must be given; the others have their records.
    """
    client = Client(settings.socket)
    try:
        say(message_of(client.recover_disk(asked)))
        if asked.every:
            # Refused if disks remain: the error has a command for each of them.
            client.recover_disk(asked)
    finally:
        client.close()


def _wait(client: Client) -> StorageView:
    """Wait until the deletions are done and measured; return the storage."""
    deadline = time.monotonic() + WAIT.total_seconds()
    quiet = 0
    while time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        view = client.storage()
        busy = view.settling or any(disk.deleting for disk in view.disks)
        # The first measurement after the last deletion may not include the freed space yet.
        quiet = 0 if busy else quiet + 1
        if quiet * PAUSE_S > 3:
            return view
    raise ProviderUnavailable(
        f"the space is not free after {WAIT.total_seconds() / 60:.0f} min; deletion continues",
        ("look again", odc("disk list")),
    )


def _say_nothing(view: StorageView, say: Say) -> None:
    deleting = sum(disk.deleting for disk in view.disks)
    if deleting:
        count = "1 snapshot is" if deleting == 1 else f"{deleting} snapshots are"
        say(f"{count} being deleted already, and no other can be. {space_text(view)}.")
        say("See what that frees: " + odc("disk list"))
        return
    say("No snapshot can be deleted: each of these disks has only its newest verified one.")
    say(f"{space_text(view)}. What is taken now are files on disks; those who take most:")
    for line in _table(_USERS, _by_user(view.disks)[:5]):
        say(line)
    again = odc("down") + " && " + odc("up")
    say("More room: let users delete files, or raise disk_file_gib in the settings, then: " + again)


def _going_rows(disk: DiskUseView) -> list[tuple[str, ...]]:
    return [
        (
            snapshot.id,
            disk.owner,
            disk.name,
            f"{snapshot.taken_at.astimezone():%Y-%m-%d %H:%M}",
            gib_text(snapshot.used_bytes),
            _size(snapshot.frees_bytes),
        )
        for snapshot in disk.snapshots
        if snapshot.goes
    ]


def _by_user(disks: Iterable[DiskUseView]) -> list[tuple[str, ...]]:
    """Return a row for each user, in the order of the disks: the user who uses most first."""
    found: dict[str, list[DiskUseView]] = {}
    for disk in disks:
        found.setdefault(disk.owner, []).append(disk)
    rows = []
    for owner, theirs in found.items():
        files = sum(disk.files_bytes or 0 for disk in theirs)
        history = sum(disk.history_bytes or 0 for disk in theirs)
        known = all(disk.files_bytes is not None for disk in theirs)
        sizes = (files, history, files + history) if known else (None, None, None)
        rows.append((owner, str(len(theirs)), *map(_size, sizes)))
    return rows


def _disk_row(disk: DiskUseView) -> tuple[str, ...]:
    sizes = (gib_text(disk.size_bytes), _size(disk.files_bytes), _size(disk.history_bytes))
    deleting = f" (-{disk.deleting})" if disk.deleting else ""
    holder = disk.holder_name or (disk.holder or "-")[:8]
    return (disk.name, disk.owner, *sizes, f"{len(disk.snapshots)}{deleting}", holder, disk.id[:8])


def _size(count: int | None) -> str:
    return "?" if count is None else gib_text(count)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    whole = [head, *rows]
    widths = [max(len(row[column]) for row in whole) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in whole]
