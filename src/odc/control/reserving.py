"""Makes a new reservation from a request: all checks, and the change that creates it.

A request that no node could ever serve is refused at once, with a command that would fit. A request that has to wait is
queued, however long that takes: the planner decides, not the request.

The checks read the stored status and the records, and they are all repeated when the commit conflicts. So nothing here
needs a lock: the limits of a user hold because every new reservation also writes the user's record.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import partial
from typing import NoReturn

import msgspec
from msgspec.structs import replace

from odc.control.context import ClusterStatus, Policy, Ports, StorageStatus
from odc.control.eligibility import types_that_serve, what_is_missing, where_of
from odc.control.orphaned_disks import refuse_orphaned_name, refuse_stray_holder
from odc.domain.access import Principal
from odc.domain.catalog import absent_type
from odc.domain.commands import gpu_dev, odc
from odc.domain.disk import Disk
from odc.domain.errors import InvalidRequest, LimitExceeded, ProviderUnavailable
from odc.domain.event_kind import EventKind
from odc.domain.limits import Limits, check_hours, check_user_limits, hours_text
from odc.domain.names import NO_DISK, check_length, check_name, free_name, probable_disk, short
from odc.domain.node import Needs, Node
from odc.domain.paging import all_pages
from odc.domain.records import AuditEvent, Change
from odc.domain.requests import Reserve
from odc.domain.reservation import Reservation, Secrets, Spec, State
from odc.domain.storage import Level, gib_text
from odc.domain.user import User, is_unnamed

MAX_LABELS = 16
"""Labels that one request may need."""


def new_reservation(
    caller: Principal, user: User, request: Reserve, ports: Ports, policy: Policy, status: ClusterStatus
) -> Change:
    """Return the change that creates the reservation, claims its disk, and writes its owner's record.

    The owner's record is written although it may be the same: its version is what makes one of two requests at the same
    moment conflict. Otherwise both could pass the user's limits.

    Raises:
        RequestError: the request is refused; nothing was changed.
        ProviderUnavailable: the nodes are not known yet, as just after a start.
    """
    # Names first, because the hints of later errors repeat them as commands to paste.
    check_names(request)
    spec = check_spec(request, policy, status)
    _check_keys(user)
    own = tuple(all_pages(partial(ports.history.list_live, caller.id)))
    # Without those that are ending for good: a user who cancels may reserve again at once.
    held = sum(_gpus(record.spec) for record in own if record.holds_name)
    check_user_limits(policy.limits, len(own), held, _gpus(spec))
    now = ports.clock.now()
    reservation_id = uuid.uuid4().hex
    chosen = _choose_disk(caller, request, ports, policy, own, status)
    _check_nodes(request, spec, chosen, status)
    disk = chosen.claimed_by(reservation_id) if chosen else None
    name = _choose_name(request, own)
    host_key = ports.host_keys.make()
    record = Reservation(
        id=reservation_id,
        owner=caller.id,
        user=_named(user, caller).name,
        name=name,
        spec=spec,
        disk_id=disk.id if disk else None,
        host_key=host_key.public,
        owner_keys=user.keys_digest,
        created_at=now,
    )
    event = _asked(caller, record, disk)
    return Change(
        reservations=(record,),
        secrets=(Secrets(reservation_id=reservation_id, host_key=host_key.private),),
        disks=(disk,) if disk else (),
        users=(_named(user, caller),),
        events=(event,),
    )


def _check_keys(user: User) -> None:
    """Refuse a user without a key, who could not log in to the box."""
    if not user.keys:
        raise InvalidRequest(
            "you have set no SSH key; you cannot log in to the box without one",
            ("GitHub's", gpu_dev("config set github_user NAME")),
            ("a file", gpu_dev("config set ssh_key ~/.ssh/id_ed25519.pub")),
        )


def _asked(caller: Principal, record: Reservation, disk: Disk | None) -> AuditEvent:
    """The first event of a reservation: what was requested."""
    spec = record.spec
    where = f"disk {disk.name}" if disk else "a temporary home"
    if disk is not None and disk.holder != record.id:
        where += ", once it is safe after the reservation that is ending"
    count = f"{spec.gpus} x {spec.gpu_type}" if spec.gpus else spec.gpu_type
    text = f"asked for {count}, {hours_text(spec.hours)}, {where}"
    return AuditEvent(subject_id=record.id, at=record.created_at, actor=caller.user, kind=EventKind.ASKED, text=text)


def check_names(request: Reserve) -> None:
    """Check every name of the request.

    Raises:
        InvalidRequest: one of them cannot be a name.
    """
    check_length(request.gpu_type, "GPU type")
    if request.disk != NO_DISK:
        check_name(request.disk, "disk")
    if request.name is not None:
        check_name(request.name, "reservation")


def _named(user: User, caller: Principal) -> User:
    """Return the user with the current spelling of the login. A uid without a login at the moment keeps the recorded
    one.
    """
    return user if is_unnamed(caller) else replace(user, name=caller.user)


def _gpus(spec: Spec) -> int:
    return spec.gpus * spec.nodes


def counts_on(node_units: int) -> tuple[int, ...]:
    """Return the GPU counts that can be reserved on one node: 1, 2, 4, 8, … and the whole node."""
    counts = []
    count = 1
    while count < node_units:
        counts.append(count)
        count *= 2
    return (*counts, node_units)


def check_spec(request: Reserve, policy: Policy, status: ClusterStatus) -> Spec:
    """Return the request as a spec, if any node could ever serve it.

    Raises:
        NotFound: no such type, or the cloud has none.
        InvalidRequest: the count or time is not possible.
        ProviderUnavailable: the nodes are not known yet.
    """
    hours = check_hours(request.hours)
    nodes = [node for node in status.nodes if node.gpu_type == request.gpu_type]
    if not nodes:
        _refuse_type(request, policy, status)
    needs = _needs_of(request)
    # A type without GPUs is lent in units of a node's CPU and memory; a box has one of them.
    if not policy.catalog.has_gpus(request.gpu_type):
        if request.gpus != 0:
            raise InvalidRequest(
                f"{request.gpu_type} has no GPUs; leave -g out",
                ("without GPUs", request.command(gpus=0)),
            )
        gpus, units = 0, 1
    else:
        _check_count(request, nodes)
        gpus = units = request.gpus
    disk = _disk_name(request)
    return Spec(gpu_type=request.gpu_type, gpus=gpus, units=units, hours=hours, disk=disk, needs=needs)


def _needs_of(request: Reserve) -> Needs:
    """Return what the request needs of its nodes.

    Raises:
        InvalidRequest: it needs more labels than a node has, or a text that is longer than any.
    """
    if isinstance(request.needs, msgspec.UnsetType):
        return Needs()
    needs = request.needs
    if len(needs.labels) > MAX_LABELS:
        raise InvalidRequest(f"{len(needs.labels)} labels are too many; at most {MAX_LABELS}")
    for text in (needs.arch, needs.zone, *needs.labels, *needs.labels.values()):
        check_length(text, "what it needs of a node,")
    return needs


def _check_nodes(request: Reserve, spec: Spec, disk: Disk | None, status: ClusterStatus) -> None:
    """Refuse a request that no node could ever serve because of its needs, or of its disk's zone.

    Raises:
        InvalidRequest: with what is missing, and the types that would do.
    """
    needs = spec.needs
    if disk is not None and disk.zone and needs.zone not in ("", disk.zone):
        raise InvalidRequest(
            f"disk {disk.name} is in zone {disk.zone}, so no node of zone {needs.zone[:40]} can attach it",
            ("no disk", request.command(disk=NO_DISK)),
        )
    where = where_of(needs, disk)
    missing = what_is_missing(spec.gpu_type, status.nodes, spec.units, spec.nodes, where)
    if not missing:
        return
    others = types_that_serve(status.nodes, spec.units, spec.nodes, where)
    would_do = f"; {', '.join(others)} would do" if others else ""
    # The command of a request with needs would lose them.
    command = [("another type", request.command(gpu_type=others[0]))] if others and needs == Needs() else []
    raise InvalidRequest(missing + would_do, *command, ("available types", gpu_dev("avail")))


def _refuse_type(request: Reserve, policy: Policy, status: ClusterStatus) -> NoReturn:
    # Before the first pass every type is unknown. That is not the user's mistake, so it is not `NotFound`.
    if status.at is None:
        raise ProviderUnavailable("the cloud is starting and has not seen its nodes yet", ("again", gpu_dev("avail")))
    here = {node.gpu_type for node in status.nodes}
    raise absent_type(request.gpu_type, here, policy.catalog.types, lambda other: request.command(gpu_type=other))


def _check_count(request: Reserve, nodes: Iterable[Node]) -> None:
    largest = max(node.units for node in nodes)
    counts = counts_on(largest)
    if request.gpus in counts:
        return
    if request.gpus > largest:
        raise InvalidRequest(
            f"no node has {request.gpus} {request.gpu_type}; the largest has {largest}",
            ("a whole node", request.command(gpus=largest)),
        )
    enough = min(count for count in counts if count > request.gpus)
    raise InvalidRequest(
        f"{request.gpus} GPUs cannot be asked for; {request.gpu_type} comes as {', '.join(map(str, counts))}",
        (f"{enough} of them", request.command(gpus=enough)),
    )


def _disk_name(request: Reserve) -> str | None:
    return None if request.disk == NO_DISK else request.disk


def _choose_name(request: Reserve, own: Iterable[Reservation]) -> str:
    """Return the requested name, else the disk's, with a number if another live reservation has it."""
    taken = {record.name: record for record in own if record.holds_name}
    if request.name is None:
        return free_name("temporary" if request.disk == NO_DISK else request.disk, taken)
    name = request.name
    if name in taken:
        raise InvalidRequest(
            f"you have a reservation {name} ({short(taken[name].id)}) already",
            ("another name", request.command(name=free_name(name, taken))),
            ("end that one", gpu_dev(f"cancel {name}")),
        )
    return name


def _choose_disk(
    caller: Principal,
    request: Reserve,
    ports: Ports,
    policy: Policy,
    own: Iterable[Reservation],
    status: ClusterStatus,
) -> Disk | None:
    """The disk to claim; a new one if there is none of that name; None for a temporary home."""
    if request.disk == NO_DISK:
        return None
    name, storage = request.disk, status.storage
    disks = {disk.name: disk for disk in all_pages(partial(ports.history.list_disks, caller.id))}
    disk = disks.get(name)
    if disk is None:
        # A disk of this name may have files but no record. A new one must not take its place.
        orphaned = refuse_orphaned_name(caller.id, name, request, ports)
        # A new disk is empty, and a typing error would look like lost data.
        near = probable_disk(name, (*disks, *orphaned))
        if near is not None and not request.new_disk:
            raise InvalidRequest(
                f"you have no disk {name}; did you mean {near}?",
                ("that one", request.command(disk=near)),
                ("a new one", request.command() + " --yes"),
            )
        check_disk_limit(policy.limits, len(disks), request)
        _check_room(name, request, storage)
        disk = Disk(
            id=uuid.uuid4().hex,
            owner=caller.id,
            name=name,
            # Never larger than the whole storage, or its quota would exceed what can be written.
            size_bytes=min(policy.disk_bytes, storage.use.total_bytes) if storage.use else policy.disk_bytes,
            created_at=ports.clock.now(),
        )
    else:
        _check_holder(disk, request, {record.id: record for record in own})
        refuse_stray_holder(disk, request, ports, status)
    return disk


def _check_room(name: str, request: Reserve, storage: StorageStatus) -> None:
    """Refuse a new disk when the storage is nearly full: the existing disks need the remaining space."""
    if storage.use is None or storage.level is not Level.FULL:
        return
    free, total = gib_text(storage.use.free_bytes), gib_text(storage.use.total_bytes)
    raise LimitExceeded(
        f"no new disk {name} can be made: the disk storage is nearly full: {free} of {total} free",
        ("no disk", request.command(disk=NO_DISK)),
        ("who uses it", "an operator sees it by: sudo " + odc("disk list")),
    )


def check_disk_limit(limits: Limits, disks: int, request: Reserve) -> None:
    """Refuse one more disk if it would exceed the user's limit.

    Raises:
        LimitExceeded: with the limit, the usage, and commands that need no new disk.
    """
    if disks >= limits.disks_per_user:
        raise LimitExceeded(
            f"you have {disks} disks, the limit for one user is {limits.disks_per_user}",
            ("use one of them", gpu_dev("reserve")),
            ("no disk", request.command(disk=NO_DISK)),
        )


def _check_holder(disk: Disk, request: Reserve, own: dict[str, Reservation]) -> None:
    """Refuse a disk that is in use, naming the holder. If the holder is ending for good, wait for it instead."""
    if disk.holder is None:
        return
    holder = own.get(disk.holder)
    ending = holder is not None and holder.state is State.ENDING and not holder.requeue
    # Only one can wait: the disk passes to it when the holder releases it.
    if ending and disk.successor is None:
        return
    user = own.get(disk.successor or "") or holder
    who = f"{user.name} ({short(user.id)})" if user else short(disk.holder)
    end = user.expires_at if user else None
    raise InvalidRequest(
        f"disk {disk.name} is in use by {who}" + (" until" if end else ""),
        ("another disk", request.command(disk=free_name(disk.name, (disk.name,)))),
        ("no disk", request.command(disk=NO_DISK)),
        ("end that one", gpu_dev(f"cancel {user.name if user else short(disk.holder)}")),
        when=end,
    )
