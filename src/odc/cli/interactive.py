"""The questions of `gpu-dev reserve`; each answer shows whether it is free now, or when.

Esc or Ctrl+C at any question aborts before anything is reserved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from odc.api.messages.cloud import Availability, TypeView
from odc.api.messages.reservations import ReservationView
from odc.api.messages.storage import DiskList, DiskView, OrphanedDiskView
from odc.cli import prompts, screens, times
from odc.cli.cloud_screens import choice_cell
from odc.cli.context import Session
from odc.cli.reserve_options import PartialRequest
from odc.domain.catalog import Catalog, absent_type
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest
from odc.domain.limits import check_hours
from odc.domain.names import DEFAULT_DISK, NO_DISK, check_name
from odc.domain.status import Status

NEW_DISK_CHOICE = "a new disk …"
DEFAULT_HOURS = "2"


def with_known_type(partial: PartialRequest, avail: Availability) -> PartialRequest:
    """Return the request with a type that the cloud has, if one was given; a type without GPUs needs no count.

    Raises:
        NotFound: the cloud has no such type.
        InvalidRequest: the cloud has no nodes.
    """
    if not avail.types:
        raise InvalidRequest("this cloud has no nodes", ("look closer", odc("doctor")))
    if partial.gpu_type is None:
        return partial
    view = _type_of(partial, avail)
    if view is None:
        here = [view.name for view in avail.types]
        raise absent_type(
            partial.gpu_type, here, Catalog().types, lambda other: replace(partial, gpu_type=other).command()
        )
    return replace(partial, gpus=0) if partial.gpus is None and not view.has_gpus else partial


def example(partial: PartialRequest, avail: Availability) -> PartialRequest:
    """Return the request with a default for every open field."""
    first = next((view for view in avail.types if view.has_gpus), avail.types[0])
    partial = replace(partial, gpu_type=partial.gpu_type or first.name, hours=partial.hours or float(DEFAULT_HOURS))
    partial = with_known_type(partial, avail)
    return replace(partial, gpus=1) if partial.gpus is None else partial


def _type_of(partial: PartialRequest, avail: Availability) -> TypeView | None:
    return next((view for view in avail.types if view.name == partial.gpu_type), None)


def prompt_for_missing(session: Session, partial: PartialRequest, avail: Availability, yes: bool) -> PartialRequest:
    """Ask for the open fields, show the equivalent command, and ask for confirmation; return the request.

    Args:
        session: the command's.
        partial: the request so far, with a known type.
        avail: the counts and times that are available.
        yes: do not ask for confirmation.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    now = session.now()
    if partial.gpu_type is None:
        chosen = str(prompts.select("GPU type?", type_lines(avail, now)))
        partial = with_known_type(replace(partial, gpu_type=chosen), avail)
    view = _type_of(partial, avail)
    if partial.gpus is None and view is not None:
        partial = replace(partial, gpus=int(prompts.select("How many GPUs?", count_lines(view, avail, now))))
    if partial.hours is None:
        typed = prompts.text("For how many hours?", hours_fault, session.output.note, default=DEFAULT_HOURS)
        partial = replace(partial, hours=float(typed))
    if partial.disk is None:
        partial = replace(partial, disk=_ask_disk(session))
    session.output.line("The same by one command: " + partial.command())
    if not yes and not prompts.confirm("Reserve it?"):
        raise KeyboardInterrupt
    return partial


def type_lines(avail: Availability, now: datetime) -> list[tuple[str, str]]:
    """Return the types to choose from, each with its free count, or the time of the first free GPU."""
    width = max(len(view.name) for view in avail.types)
    return [(f"{view.name:<{width}}  {_type_text(view, avail, now)}", view.name) for view in avail.types]


def _type_text(view: TypeView, avail: Availability, now: datetime) -> str:
    free = f"{view.free} of {view.total} free{screens.simulated(view.simulated)}"
    starts = [choice.start for choice in view.choices if choice.start is not None]
    if not starts:
        return f"{free}, none can be had now"
    return free if min(starts) <= avail.now else f"{free}, the first by {times.clock(min(starts), now)}"


def count_lines(view: TypeView, avail: Availability, now: datetime) -> list[tuple[str, int]]:
    """Return the counts to choose from, each with the time when it is available."""
    return [(f"{choice.gpus:>2}  {choice_cell(choice, now, avail.now)}", choice.gpus) for choice in view.choices]


def hours_fault(text: str) -> str:
    """Return the fault of these hours; empty if they are allowed."""
    try:
        check_hours(float(text))
    except ValueError:
        return "a number, such as 2 or 0.5"
    except InvalidRequest as error:
        return error.message
    return ""


def disk_name_fault(text: str) -> str:
    """Return the fault of this disk name; empty if it is allowed."""
    try:
        check_name(text, "disk")
    except InvalidRequest as error:
        return error.message
    return ""


def disk_lines(found: DiskList, live: Iterable[ReservationView]) -> list[prompts.Line]:
    """Return the disks to choose from: the default, the others, a new one, none. A disk that is in use or has no record
    cannot be chosen, since it would be refused.

    Args:
        found: the user's.
        live: the user's live reservations.
    """
    by_name = {disk.name: disk for disk in found.disks}
    orphaned = {orphan.name: _orphan_line(orphan) for orphan in found.orphaned if orphan.name not in by_name}
    live = tuple(live)
    names = dict.fromkeys((DEFAULT_DISK, *by_name, *orphaned))
    lines = [orphaned.get(name) or _disk_line(name, by_name.get(name), live) for name in names]
    none = prompts.Line("none: a temporary home, lost at the end", NO_DISK)
    return [*lines, prompts.Line(NEW_DISK_CHOICE, NEW_DISK_CHOICE), none]


def _orphan_line(orphan: OrphanedDiskView) -> prompts.Line:
    command = odc(f"disk recover {orphan.id[:8]}")
    return prompts.Line(orphan.name, orphan.name, f"has files but no record; ask for: sudo {command}")


def _disk_line(name: str, disk: DiskView | None, live: Sequence[ReservationView]) -> prompts.Line:
    if disk is None:
        return prompts.Line(f"{name}  (new)", name)
    users = [view for view in live if view.disk == name]
    # An ending reservation passes its disk on: the next one waits for the snapshot, so the disk can be chosen.
    blocking = [view for view in users if view.state is not Status.ENDING or view.requeue]
    if blocking:
        return prompts.Line(name, name, f"in use by {blocking[-1].name}")
    if disk.holder_id is None:
        return prompts.Line(name, name)
    if any(view.id == disk.holder_id for view in users):
        return prompts.Line(f"{name}  (its snapshot is being made)", name)
    return prompts.Line(name, name, f"in use by {disk.holder or disk.holder_id[:8]}")


def _ask_disk(session: Session) -> str:
    client = session.client()
    lines = disk_lines(client.disks(), client.reservations().reservations)
    chosen = str(prompts.select("Which disk is your home?", lines))
    if chosen != NEW_DISK_CHOICE:
        return chosen
    taken = {line.value: line.taken for line in lines if line.taken}

    def fault(text: str) -> str:
        return f"{text}: {taken[text]}" if text in taken else disk_name_fault(text)

    return prompts.text("Name of the new disk?", fault, session.output.note, keep=True)
