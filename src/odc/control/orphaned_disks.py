"""Disks with files on the storage but without a record, as after `odc restore` from an older backup.

The label next to every volume has its owner and the disk's name. So such a disk can be listed, a new disk of the same
name does not replace it, and an operator can recover it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from functools import partial

from msgspec.structs import replace

from odc.control.box_files import reservation_of
from odc.control.change_parts import in_parts
from odc.control.context import ClusterStatus, Policy, Ports
from odc.control.disk_histories import batches
from odc.control.operator_events import OperatorEvents
from odc.domain.commands import Command, gpu_dev, odc
from odc.domain.disk import Disk, SnapshotRecord, VolumeLabel
from odc.domain.disk_history import DiskHistory, summary_of
from odc.domain.errors import InvalidRequest, NotFound, ProviderError, ProviderUnavailable
from odc.domain.event_kind import EventKind
from odc.domain.names import NO_DISK, check_name, cut, free_name
from odc.domain.paging import all_pages
from odc.domain.problem import Problem, ProblemKind
from odc.domain.records import Change
from odc.domain.requests import RecoverDisk, Reserve
from odc.domain.user import User, is_same_login, uid_of, unix_principal

MIN_ID_PREFIX = 4
MAX_NAMED = 5
_LIST = ("what there is", gpu_dev("status"))


def orphaned_disks(ports: Ports, known: Iterable[Disk] = ()) -> tuple[VolumeLabel, ...]:
    """Return the labels of volumes without a record, by disk id.

    Args:
        ports: the storage and the records.
        known: disks that have a record, which need not be looked up.

    Raises:
        ProviderUnavailable: the storage or the store does not answer.
    """
    # A record is written before its volume is made, so every volume in this list had its record earlier.
    labels = ports.volumes.list_labels()
    ids = {disk.id for disk in known}
    return tuple(label for label in labels if label.disk_id not in ids and ports.store.find_disk(label.disk_id) is None)


def label_of(disk: Disk, user: str) -> VolumeLabel:
    """Return the label next to the disk's volume."""
    return VolumeLabel(
        disk_id=disk.id,
        owner=disk.owner,
        user=user,
        name=disk.name,
        size_bytes=disk.size_bytes,
        zone=disk.zone,
    )


def write_labels(ports: Ports, disks: Iterable[Disk]) -> None:
    """Write the labels that are missing, as of disks of version 0.1.0, or not true any more.

    Raises:
        ProviderUnavailable: the storage or the store does not answer.
    """
    written = {label.disk_id: label for label in ports.volumes.list_labels()}
    for disk in disks:
        old = written.get(disk.id)
        if old is None or replace(label_of(disk, ""), user=old.user) == old:
            continue
        user = ports.store.find_user(disk.owner)
        ports.volumes.label(label_of(disk, user.name if user else ""))


def orphan_problems(orphans: tuple[VolumeLabel, ...]) -> tuple[Problem, ...]:
    """Return the problems that operators are shown: one for each orphaned disk, up to `MAX_NAMED`."""
    found = [
        Problem(
            kind=ProblemKind.DISK_ORPHANED,
            disk=label.disk_id,
            name=label.name,
            user=(label.user or label.owner) if label.name else "",
        )
        for label in orphans[:MAX_NAMED]
    ]
    if len(orphans) > MAX_NAMED:
        found.append(Problem(kind=ProblemKind.DISKS_ORPHANED, count=len(orphans) - MAX_NAMED))
    return tuple(found)


def shown(label: VolumeLabel) -> str:
    """Return the name of the disk for messages."""
    if not label.name:
        return f"a disk of an unknown owner ({label.disk_id[:8]})"
    return f"disk {label.name} of {label.user or label.owner}"


def _command(label: VolumeLabel) -> Command:
    unknown = "" if label.name else " --user LOGIN --name NAME"
    return odc(f"disk recover {label.disk_id[:8]}{unknown}")


def refuse_orphaned_name(owner: str, name: str, request: Reserve, ports: Ports) -> tuple[str, ...]:
    """Refuse to make a disk whose files exist already.

    Returns:
        The names of the owner's disks without a record, which the new name may be a mistyped one of.

    Raises:
        InvalidRequest: with what to do.
        ProviderUnavailable: the storage does not answer.
    """
    orphans = orphaned_disks(ports, all_pages(partial(ports.history.list_disks, owner)))
    own = {label.name: label for label in orphans if label.owner == owner}
    if name in own:
        raise InvalidRequest(
            f"disk {name} has files but no record any more, so no new one is made in its place",
            ("take it back", "ask an operator for: sudo " + _command(own[name])),
            ("another disk", request.command(disk=free_name(name, (name,)))),
            ("no disk", request.command(disk=NO_DISK)),
        )
    return tuple(own)


def refuse_stray_holder(disk: Disk, request: Reserve, ports: Ports, status: ClusterStatus) -> None:
    """Refuse a disk that is attached to a box without a record: no new box can use it until that box is deleted.

    Raises:
        InvalidRequest: with what to do.
    """
    if not status.quarantined:
        return
    try:
        holder = ports.volumes.list_attached().get(disk.id)
    except ProviderError:
        return  # It is found out when a box is made.
    box = next(
        (box for box in status.quarantined if holder and box.name.reservation_id == reservation_of(holder)), None
    )
    if box is not None:
        end = (("end that box", f"ask an operator for: {box.delete_command}"),) if box.delete_command else ()
        raise InvalidRequest(
            f"disk {disk.name} is in use by a box that has no record, as after a restore from an older backup",
            *end,
            ("another disk", request.command(disk=free_name(disk.name, (disk.name,)))),
            ("no disk", request.command(disk=NO_DISK)),
        )


def recover(
    ports: Ports, policy: Policy, request: RecoverDisk, events: OperatorEvents
) -> tuple[tuple[Change, ...], str]:
    """Return the changes that create records for disks without one, with all their snapshots, and a sentence about it.

    The snapshots are written before their disk: after a crash in between the disk still has no record, and the
    repetition of the request writes all of them again.

    An owner without a record gets one too: if another login has the uid by now that record is held, and the disk is not
    given to that login.

    A request for every disk leaves out those whose owner or name must be given. It is refused if no other disk is left.

    Raises:
        NotFound: there is no such disk, or no such user.
        InvalidRequest: the reference is ambiguous, the owner is unknown or is another person now, or the owner has
            another disk of that name. For a request for every disk, the hints have a command for each.
        ProviderError: the storage does not answer.
    """
    orphans = orphaned_disks(ports)
    chosen = orphans if request.every else (_chosen(orphans, request),)
    if request.every:
        found = _every(ports, policy, orphans, request)
    else:
        found = [_recovered(ports, policy, chosen[0], request)]
    if not found:
        return (), "every disk has its record"
    disks = [history.disk for history in found]
    names = ", ".join(f"{disk.name} ({disk.id[:8]}, {disk.snapshots.count} snapshots)" for disk in disks)
    owners = _missing_owners(ports, disks, {label.disk_id: label for label in chosen})
    changes = [Change(users=(owner,)) for owner in owners]
    for history in found:
        changes += [Change(snapshots=tuple(batch)) for batch in batches(history.snapshots)]
        disk = history.disk
        told = f"its record was made from its files, with {disk.snapshots.count} snapshots, for {disk.owner}"
        changes.append(Change(disks=(disk,), events=(events.of_disk(disk.id, EventKind.RECOVERED, told),)))
    return in_parts(changes), f"taken back: {names}"


def _every(ports: Ports, policy: Policy, orphans: Iterable[VolumeLabel], request: RecoverDisk) -> list[DiskHistory]:
    """The records of all disks that need no further information."""
    found: list[DiskHistory] = []
    left: list[tuple[str, str]] = []
    for label in orphans:
        try:
            names = [history.disk.name for history in found if history.disk.owner == label.owner]
            found.append(_recovered(ports, policy, label, request, names))
        except InvalidRequest as error:
            left.append((shown(label), error.hints[-1].command))
    if left and not found:
        text = "1 disk needs" if len(left) == 1 else f"{len(left)} disks need"
        raise InvalidRequest(f"{text} an owner or another name", *left)
    return found


def _missing_owners(ports: Ports, disks: Iterable[Disk], labels: Mapping[str, VolumeLabel]) -> tuple[User, ...]:
    """Return new records for the disks' owners that have none."""
    owners = {}
    for disk in disks:
        label = labels[disk.id]
        uid = uid_of(disk.owner)
        login = None if uid is None else ports.accounts.find_login(uid)
        name = label.user if disk.owner == label.owner else login
        if name and ports.store.find_user(disk.owner) is None:
            owners[disk.owner] = User(principal=disk.owner, name=name)
    return tuple(owners.values())


def _chosen(orphans: tuple[VolumeLabel, ...], request: RecoverDisk) -> VolumeLabel:
    found = [
        label
        for label in orphans
        if label.name == request.disk or (len(request.disk) >= MIN_ID_PREFIX and label.disk_id.startswith(request.disk))
    ]
    if request.user:
        found = [label for label in found if not label.owner or request.user in (label.user, label.owner)] or found
    if not found:
        there = [(shown(label), _command(label)) for label in orphans[:MAX_NAMED]]
        raise NotFound(f"no disk {cut(request.disk)!r} lacks its record", *(there or [_LIST]))
    if len(found) > 1:
        text = f"{len(found)} disks without a record match {cut(request.disk)}"
        raise InvalidRequest(text, *((shown(label), _command(label)) for label in found[:MAX_NAMED]))
    return found[0]


def _recovered(
    ports: Ports, policy: Policy, label: VolumeLabel, request: RecoverDisk, others: Iterable[str] = ()
) -> DiskHistory:
    """The record of a disk; `others` are names that its owner's disks get by the same request."""
    owner = _owner(ports, label, request.user)
    name = check_name(request.name or label.name, "disk") if request.name or label.name else ""
    if not owner or not name:
        text = f"nothing says whose disk {label.disk_id[:8]} is and what it is called: it was made by version 0.1.0"
        raise InvalidRequest(text, ("say it", odc(f"disk recover {label.disk_id[:8]} --user LOGIN --name NAME")))
    taken = {*others, *(disk.name for disk in all_pages(partial(ports.history.list_disks, owner)))}
    if name in taken:
        other = odc(f"disk recover {label.disk_id[:8]} --name {free_name(name, taken)}")
        raise InvalidRequest(f"{label.user or owner} has another disk {name}", ("another name", other))
    snapshots = _snapshots(ports, label.disk_id)
    disk = Disk(
        id=label.disk_id,
        owner=owner,
        name=name,
        size_bytes=label.size_bytes or policy.disk_bytes,
        created_at=ports.clock.now(),
        made=True,
        zone=label.zone,
        snapshots=summary_of(snapshots, len(snapshots) + 1),
    )
    return DiskHistory(disk=disk, snapshots=snapshots)


def _owner(ports: Ports, label: VolumeLabel, user: str) -> str:
    """Return the new owner's principal: the requested one, else the previous owner's."""
    recorded = ports.store.find_user(label.owner)
    is_another = bool(recorded and label.user and not is_same_login(recorded.name, label.user))
    if recorded and is_another and not user:
        raise InvalidRequest(
            f"{shown(label)} was made by {label.owner}, which is {recorded.name} in this cloud now: say whose it is",
            (f"{recorded.name}'s", odc(f"disk recover {label.disk_id[:8]} --user {shlex.quote(recorded.name)}")),
            ("another's", odc(f"disk recover {label.disk_id[:8]} --user LOGIN")),
        )
    if not user or user == label.owner or (user == label.user and not is_another):
        return label.owner
    uid = int(user) if user.isdecimal() and len(user) <= 10 else ports.accounts.find_uid(user)
    if uid is None:
        raise NotFound(f"{cut(user)!r} is not a login of this machine", ("look it up", "getent passwd LOGIN"))
    return unix_principal(uid)


def _snapshots(ports: Ports, disk_id: str) -> tuple[SnapshotRecord, ...]:
    """Return new records for the disk's complete snapshots."""
    try:
        found = ports.volumes.list_snapshots(disk_id)
    except ProviderUnavailable as error:
        raise ProviderUnavailable(f"the snapshots of disk {disk_id[:8]}: {error.message}", *error.hints) from error
    return tuple(
        SnapshotRecord(disk_id=disk_id, number=number, snapshot=snapshot)
        for number, snapshot in enumerate(found, start=1)
    )
