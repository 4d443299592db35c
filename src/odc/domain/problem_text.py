"""The text of problems: one wording for `gpu-dev status`, `odc doctor`, `odc up` and the log. Pure.

A text names a reservation by its name, if it is known, and its short id. What to do next is in the hints.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple

from odc.domain.commands import Command, gpu_dev, joined, odc
from odc.domain.errors import Hint
from odc.domain.names import short
from odc.domain.problem import Problem, ProblemKind
from odc.domain.storage import gib_text

K = ProblemKind


class Wording(NamedTuple):
    """The text of a problem, and what to do about it."""

    text: str
    hints: tuple[Hint, ...] = ()

    @property
    def line(self) -> str:
        """All of it in one line, with the commands as data."""
        return joined("; ", (self.text, *self.ways))

    @property
    def ways(self) -> tuple[str, ...]:
        """The hints as text, with the commands as data."""
        return tuple(f"{hint.label}: " + hint.command for hint in self.hints)


def wording(problem: Problem) -> Wording:
    """Return the text and the hints of a problem; of an unknown kind, which a newer version has made, its detail."""
    write = _WORDINGS.get(problem.kind)
    return write(problem) if write else Wording(problem.detail or str(problem.kind))


def problem_text(problem: Problem) -> str:
    """Return the problem as one line of plain text, for the log and for scripts."""
    return f"{wording(problem).line}"


def problem_texts(problems: Iterable[Problem]) -> tuple[str, ...]:
    """Return each problem as one line of plain text, in the given order."""
    return tuple(map(problem_text, problems))


def is_known(kind: ProblemKind) -> bool:
    """Whether this version can word problems of this kind."""
    return kind in _WORDINGS


def reservation_text(problem: Problem) -> str:
    """`reservation train (1a2b3c4d) of ada`, with as much of it as is known."""
    named = f"{problem.name} ({short(problem.reservation)})" if problem.name else short(problem.reservation)
    return f"reservation {named}" + (f" of {problem.user}" if problem.user else "")


def _disk_text(problem: Problem) -> str:
    if not problem.name:
        return f"a disk of an unknown owner ({short(problem.disk)})"
    return f"disk {problem.name}" + (f" of {problem.user}" if problem.user else "")


def _cancel(problem: Problem) -> Command:
    return gpu_dev(f"cancel {short(problem.reservation)}")


def _clock_jumped(problem: Problem) -> Wording:
    direction = "forward" if problem.seconds > 0 else "back"
    text = (
        f"the clock jumped {direction} by {timedelta(seconds=round(abs(problem.seconds)))}; no reservation ends by time"
    )
    return Wording(text, (Hint("if the clock is right now", odc("clock accept")),))


def _records_space(problem: Problem) -> Wording:
    text = f"the file system of the records has {problem.free_bytes // 2**20} MiB free at {problem.path}"
    return Wording(f"{text}; no new reservations are taken" if problem.kind is K.RECORDS_FULL else text)


def _no_expiry(problem: Problem) -> Wording:
    text = f"{reservation_text(problem)} has no expiry time and runs until cancelled"
    return Wording(text, (Hint("end it", _cancel(problem)),))


def _node_gone(problem: Problem) -> Wording:
    text = f"node {problem.node} of {reservation_text(problem)} is not in this cloud any more; its box is left alone"
    return Wording(text, (Hint("end it", _cancel(problem)),))


def _box_quarantined(problem: Problem) -> Wording:
    name = short(problem.box) + problem.box[problem.box.rfind("-", 0, problem.box.rfind("-")) :]
    known = f", a later attempt than the record of {reservation_text(problem)} has," if problem.name else ""
    text = (
        f"box {name} is quarantined{known or ': no record knows it,'} and holds {problem.count} {problem.gpu_type} of "
    )
    text += problem.node
    return Wording(text, (Hint("save what is in it, then", problem.command),) if problem.command else ())


def _login_changed(problem: Problem) -> Wording:
    uid, login = problem.uid, problem.login
    text = f"uid {uid} was {problem.user} and is {login} now, whose requests are refused"
    return Wording(
        text,
        (
            Hint("the same person", odc(f"user move {uid} {shlex.quote(login)}")),
            Hint("another person", odc(f"user forget {uid}")),
        ),
    )


def _foreign_container(problem: Problem) -> Wording:
    count = f"{problem.count} GPU{'s' if problem.count != 1 else ''} of {problem.node}"
    are = "they are" if problem.count != 1 else "it is"
    if not problem.container:
        return Wording(f"something that is not this cloud's uses {count}; {are} not lent")
    return Wording(f"container {problem.container}, which is not this cloud's, uses {count}; {are} not lent")


def _gpu_unusable(problem: Problem) -> Wording:
    holder = f"; {reservation_text(problem)} has it" if problem.reservation else ""
    return Wording(f"GPU {problem.gpu} of {problem.node} is not lent: {problem.detail}{holder}")


def _host_check_hangs(problem: Problem) -> Wording:
    text = f"the check of the host has not ended for {problem.seconds / 60:.0f} min"
    return Wording(text, (Hint("see dmesg, then", "sudo " + odc("down") + " && sudo " + odc("up")),))


def _gpu_driver_hangs(problem: Problem) -> Wording:
    text = f"the GPU driver has not answered for {problem.seconds / 60:.0f} min; the machine may need a reboot"
    return Wording(text, (Hint("see", "sudo dmesg"),))


def _nearly_full(problem: Problem) -> Wording:
    free, total = gib_text(problem.free_bytes), gib_text(problem.total_bytes)
    full = problem.kind is K.STORAGE_FULL
    what = "new disks are refused, and running boxes may soon be unable to write" if full else "act now"
    text = f"the disk storage is nearly full, {free} of {total} free: {what}"
    return Wording(text, (Hint("who uses it", "sudo " + odc("disk list")),))


def _disk_orphaned(problem: Problem) -> Wording:
    unknown = "" if problem.name else " --user LOGIN --name NAME"
    hint = Hint("take it back", odc(f"disk recover {short(problem.disk)}{unknown}"))
    return Wording(f"{_disk_text(problem)} has files but no record", (hint,))


def _disks_orphaned(problem: Problem) -> Wording:
    text = f"{problem.count} more disks have files but no record"
    return Wording(text, (Hint("take them back", odc("disk recover --all")),))


_WORDINGS: Mapping[str, Callable[[Problem], Wording]] = {
    K.PASSES_FAIL: lambda p: Wording(f"the cloud's passes fail: {p.detail}"),
    K.CLUSTER_SILENT: lambda p: Wording(f"the cluster does not answer: {p.detail}"),
    K.CLOCK_JUMPED: _clock_jumped,
    K.RECORDS_LOW: _records_space,
    K.RECORDS_FULL: _records_space,
    K.RECORDS_FOLDER: lambda p: Wording(f"the folder of the records cannot be read: {p.detail}"),
    K.RECORD_UNREADABLE: lambda p: Wording(f"the record of {reservation_text(p)} cannot be read: {p.detail}"),
    K.NO_EXPIRY: _no_expiry,
    K.NODE_GONE: _node_gone,
    K.BOX_UNREACHABLE: lambda p: Wording(f"the box of {reservation_text(p)} cannot be reached: {p.detail}"),
    K.BOX_QUARANTINED: _box_quarantined,
    K.LOGIN_CHANGED: _login_changed,
    K.FOREIGN_CONTAINER: _foreign_container,
    K.GPU_UNUSABLE: _gpu_unusable,
    K.HOST_CHECK_FAILED: lambda p: Wording(f"the host could not be checked: {p.detail}"),
    K.HOST_CHECK_HANGS: _host_check_hangs,
    K.IMAGE_GONE: lambda p: Wording(
        f"the image {p.image} of boxes is gone", (Hint("build it", "sudo " + odc("image build")),)
    ),
    K.ISOLATION_FAILED: lambda p: Wording(p.detail),
    K.REPAIR_FAILED: lambda p: Wording(p.detail),
    K.ADDRESS_LOST: lambda p: Wording(
        f"this machine has lost its address {p.address} (listen), so no box can start",
        (Hint("see", "ip -brief address"),),
    ),
    K.GPU_DRIVER_HANGS: _gpu_driver_hangs,
    K.ISOLATION_RESTORED: lambda p: Wording(p.detail or "rules that keep boxes apart were missing; they were put back"),
    K.FILE_RESTORED: lambda p: Wording(f"{p.path} had been deleted; it was put back"),
    K.BOX_OBJECT_RESTORED: lambda p: Wording(
        f"{p.container}: someone else had deleted or changed an object of this box; it was made again: {p.detail}"
    ),
    K.FORWARDING_RESTORED: lambda _: Wording(
        "the kernel did not forward packets any more (net.ipv4.ip_forward was 0); it was put back"
    ),
    K.LXCFS_RESTARTED: lambda _: Wording(
        "lxcfs had died or hung and was started again; "
        "free fails in boxes that run since before, until they are started again"
    ),
    K.KERNEL_LIMITS_RAISED: lambda p: Wording(f"limits of the kernel were too low for the boxes: {p.detail}"),
    K.NAMESPACES_RESTORED: lambda p: Wording(
        f"the network namespaces of {p.count} boxes were not mounted any more; they were mounted again"
    ),
    K.STORAGE_FAULT: lambda p: Wording(f"the maintenance of the disk storage fails: {p.detail}"),
    K.STORAGE_LOW: _nearly_full,
    K.STORAGE_FULL: _nearly_full,
    K.DISK_UNLIMITED: lambda p: Wording(f"{_disk_text(p)} has no limit: {p.detail}"),
    K.DISK_FAULT: lambda p: Wording(f"{_disk_text(p)}: {p.detail}"),
    K.SNAPSHOTS_STAY: lambda p: Wording(f"{_disk_text(p)}: snapshots cannot be deleted: {p.detail}"),
    K.SNAPSHOT_MISSING: lambda p: Wording(
        f"{_disk_text(p)}: its newest verified snapshot is not on the storage, so no older one is deleted"
    ),
    K.DISK_ORPHANED: _disk_orphaned,
    K.DISKS_ORPHANED: _disks_orphaned,
    K.MORE: lambda p: Wording(f"{p.count} more such problems"),
}
