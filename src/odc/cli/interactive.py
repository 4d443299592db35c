"""The questions of `gpu-dev reserve`: what is free now or when stands beside each answer.

Esc or Ctrl+C at any question: nothing happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from odc.api.messages import Availability, DiskView, TypeView
from odc.cli import questions, screens, times
from odc.cli.cloud_screens import choice_cell
from odc.cli.context import Session
from odc.cli.wish import Wish
from odc.domain.errors import InvalidRequest
from odc.domain.limits import check_hours
from odc.domain.names import DEFAULT_DISK, NO_DISK, check_name

OTHER = "a new disk …"
USUAL_HOURS = "2"


def ask_for(session: Session, wish: Wish, yes: bool) -> Wish:
    """Ask for what is open, show the command that would do the same, and ask once more.

    Raises:
        InvalidRequest: the cloud does not have what was said before.
        KeyboardInterrupt: the user gave up.
    """
    avail = session.client().avail()
    if not avail.types:
        raise InvalidRequest("this cloud has no nodes", ("look closer", "odc doctor"))
    now = session.now()
    if wish.gpu_type is None:
        wish = replace(wish, gpu_type=str(questions.select("GPU type?", type_lines(avail, now))))
    view = next((view for view in avail.types if view.name == wish.gpu_type), None)
    if view is None:
        raise InvalidRequest(f"this cloud has no {wish.gpu_type}", ("what there is", "gpu-dev avail"))
    if wish.gpus is None:
        asked = questions.select("How many GPUs?", count_lines(view, avail, now)) if view.has_gpus else 0
        wish = replace(wish, gpus=int(asked))
    if wish.hours is None:
        wish = replace(wish, hours=float(questions.text("For how many hours?", USUAL_HOURS, hours_fault)))
    if wish.disk is None:
        wish = replace(wish, disk=_ask_disk(session))
    session.output.line(f"The same by one command: {wish.command()}")
    if not yes and not questions.confirm("Reserve it?"):
        raise KeyboardInterrupt
    return wish


def type_lines(avail: Availability, now: datetime) -> list[tuple[str, str]]:
    """Each type with what is free, or when the first of it will be."""
    width = max(len(view.name) for view in avail.types)
    return [(f"{view.name:<{width}}  {_type_text(view, avail, now)}", view.name) for view in avail.types]


def _type_text(view: TypeView, avail: Availability, now: datetime) -> str:
    free = f"{view.free} of {view.total} free{screens.simulated(view.simulated)}"
    starts = [choice.start for choice in view.choices if choice.start is not None]
    if not starts:
        return f"{free}, none can be had now"
    return free if min(starts) <= avail.now else f"{free}, the first by {times.clock(min(starts), now)}"


def count_lines(view: TypeView, avail: Availability, now: datetime) -> list[tuple[str, int]]:
    """Each count with when it could be had."""
    return [(f"{choice.gpus:>2}  {choice_cell(choice, now, avail.now)}", choice.gpus) for choice in view.choices]


def hours_fault(text: str) -> bool | str:
    """True if these hours may be asked for, else what is wrong."""
    try:
        check_hours(float(text))
    except ValueError:
        return "a number, such as 2 or 0.5"
    except InvalidRequest as error:
        return error.message
    return True


def disk_name_fault(text: str) -> bool | str:
    """True if a disk may have this name, else what is wrong."""
    try:
        check_name(text, "disk")
    except InvalidRequest as error:
        return error.message
    return True


def disk_lines(disks: Iterable[DiskView]) -> list[tuple[str, str]]:
    """The default disk, the others, a new one, none."""
    by_name = {disk.name: disk for disk in disks}
    names = [DEFAULT_DISK, *(name for name in by_name if name != DEFAULT_DISK)]
    lines = [(name + _disk_note(by_name.get(name)), name) for name in names]
    return [*lines, (OTHER, OTHER), ("none: a temporary home, lost at the end", NO_DISK)]


def _disk_note(disk: DiskView | None) -> str:
    if disk is None:
        return "  (new)"
    return f"  (in use by {disk.holder})" if disk.holder else ""


def _ask_disk(session: Session) -> str:
    chosen = str(questions.select("Which disk is your home?", disk_lines(session.client().disks().disks)))
    return chosen if chosen != OTHER else questions.text("Name of the new disk?", "", disk_name_fault)
