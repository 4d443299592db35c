"""The screens of `gpu-dev avail` and `gpu-dev status`, as lines of text. Pure: the time and the terminal are
arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from odc.api.messages.cloud import Availability, ChoiceView, StatusView, TypeView
from odc.api.messages.reservations import ReservationView
from odc.api.problem_views import wordings
from odc.cli import times
from odc.cli.output import NO_GPUS, Output
from odc.cli.screens import count_text, public_text, simulated_line
from odc.cli.wrap import plain
from odc.domain.commands import Command, gpu_dev, odc
from odc.domain.limits import MAX_HOURS, MIN_HOURS, hours_text
from odc.domain.names import DEFAULT_DISK, NO_DISK
from odc.domain.requests import reserve_command

_STEP_H = 0.25


def fits_now(choice: ChoiceView, server_now: datetime) -> bool:
    """Whether it can be had at once, for some time at least."""
    if choice.start is None or choice.start > server_now:
        return False
    return choice.until is None or choice.until - server_now >= timedelta(hours=MIN_HOURS)


def choice_cell(choice: ChoiceView | None, now: datetime, server_now: datetime, by: str = "by ") -> str:
    """Return `now`, `now, 3 h`, `by 14:20`, or `-` if it never fits; without the `by` in a narrow column."""
    if choice is None or choice.start is None:
        return "-"
    if choice.start > server_now:
        return f"{by}{times.clock(choice.start, now)}"
    limit = _limit(choice, server_now)
    return f"now, {_short_span(limit)}" if limit is not None else "now"


def _limit(choice: ChoiceView, server_now: datetime) -> timedelta | None:
    """Return for how long it is free from now; None if that is longer than any reservation, or if it is not free
    now.
    """
    if choice.start is None or choice.start > server_now or choice.until is None:
        return None
    limit = choice.until - server_now
    return limit if limit < timedelta(hours=MAX_HOURS) else None


def _short_span(length: timedelta) -> str:
    """Return `1.5 h`, `3 h` or `45 min`: rounded down to half hours from one hour on, since cells are narrow."""
    halves = length // timedelta(minutes=30)
    return f"{halves / 2:g} h" if halves >= 2 else f"{length // timedelta(minutes=1)} min"


def avail_lines(avail: Availability, now: datetime, output: Output) -> list[str]:
    """Return the table of `gpu-dev avail`."""
    if not avail.types:
        return ["This cloud has no nodes. Its operator looks closer with: " + odc("doctor")]
    counts = sorted({choice.gpus for view in avail.types if view.has_gpus for choice in view.choices})
    header = ["TYPE", "FREE", *(f"{count} GPU{'s' if count > 1 else ''}" for count in counts), "WAITING"]
    rows, bare = ([_avail_row(view, counts, avail.now, now, by) for view in avail.types] for by in ("by ", ""))
    header = header if counts else ["TYPE", "FREE", "NOW", "WAITING"]
    lines, has_by = _narrowing(header, rows, bare, avail.types, output)
    choices = [choice for view in avail.types for choice in view.choices]
    if any(_limit(choice, avail.now) is not None for choice in choices):
        lines.append('"now, 3 h": free now for at most 3 h.')
    if any(choice.start is not None and choice.start > avail.now for choice in choices):
        lines.append('"by": promised, could be sooner.' if has_by else "A time: promised, could be sooner.")
    lines += simulated_line(view.name for view in avail.types if view.simulated)
    return [*lines, "Next: " + gpu_dev("reserve")]


def _narrowing(
    header: list[str], rows: list[list[str]], bare: list[list[str]], types: Sequence[TypeView], output: Output
) -> tuple[list[str], bool]:
    """Return the widest table that fits: with the queue's users, with its length, or without it; then without the `by`;
    else a block for each type.

    Args:
        header: column titles.
        rows: cells.
        bare: the same without the `by`.
        types: of each row.
        output: the terminal.

    Returns:
        The lines, and whether they have the `by`.
    """
    for shape in (rows, bare):
        fewer = [[*row[:-1], str(view.queued or "-")] for row, view in zip(shape, types, strict=True)]
        for cells, spare in ((shape, ()), (fewer, ("WAITING",))):
            lines = output.table(header, cells, spare=spare)
            if plain(lines[0]).startswith(f"{header[0]} "):
                return lines, shape is rows
    # The only time of a type without GPUs is not that of one GPU.
    without = [*header[:2], "START", *header[3:]]
    blocks = (output.blocks(header if view.has_gpus else without, [row]) for row, view in zip(rows, types, strict=True))
    return [line for block in blocks for line in block], True


def _avail_row(view: TypeView, counts: Sequence[int], server_now: datetime, now: datetime, by: str) -> list[str]:
    choices = {choice.gpus: choice for choice in view.choices}
    first = public_text(view.first_queued) if view.first_queued else view.waiting
    waiting = first + (f", {view.queued - 1} more" if view.queued > 1 else "") or "-"
    row = [view.name, f"{view.free}/{view.total}"]
    if view.has_gpus:
        row += [choice_cell(choices.get(count), now, server_now, by) for count in counts]
    else:
        rest = [NO_GPUS, *[""] * (len(counts) - 2)] if len(counts) > 1 else []
        row += [choice_cell(choices.get(0), now, server_now, by), *rest]
    return [*row, waiting]


def sooner_line(avail: Availability, queued: ReservationView) -> str:
    """Return `Sooner: 4 x h100 now for 3 h`, with the commands, if a smaller request could start at once; else empty.

    Of the same type: the largest count that is free, for the longest time. It reuses the name and the disk, so the
    queued reservation is cancelled first.

    Args:
        avail: the counts and times that are available.
        queued: the queued reservation.
    """
    view = next((view for view in avail.types if view.name == queued.gpu_type), None)
    if view is None or queued.ready_by is None or queued.ready_by <= avail.now:
        return ""
    wished = (queued.gpus, queued.hours)
    alone = view.queued == 1  # the free window then ends only at this reservation's own slot, which cancelling it frees
    for choice in sorted(view.choices, key=lambda choice: -choice.gpus):
        choice = msgspec.structs.replace(choice, until=None) if alone else choice
        if choice.gpus > queued.gpus or not fits_now(choice, avail.now):
            continue
        length = queued.hours if choice.until is None else min(queued.hours, _whole_steps(choice.until - avail.now))
        if length >= _STEP_H and (choice.gpus, length) != wished:
            what = f"{count_text(choice.gpus, queued.gpu_type)} now for {hours_text(length)}"
            return f"Sooner: {what}      " + _instead_of(queued, choice.gpus, length)
    return ""


def _instead_of(queued: ReservationView, gpus: int, hours: float) -> Command:
    """Return the command that cancels the queued reservation and reserves these GPUs at once."""
    disk = queued.disk or NO_DISK
    name = queued.name if queued.name != disk else None
    command = reserve_command(queued.gpu_type, gpus, hours, name, disk if disk != DEFAULT_DISK else None)
    return gpu_dev(f"cancel {queued.name} -y") + " && " + command


def _whole_steps(length: timedelta) -> float:
    """Return the hours rounded down to quarters: the command must still fit when it is typed a minute later."""
    return int((length - timedelta(minutes=1)) / timedelta(hours=_STEP_H)) * _STEP_H


def status_lines(status: StatusView, output: Output) -> list[str]:
    """Return the lines of `gpu-dev status`."""
    nodes = [
        [node.name, node.gpu_type, f"{node.free}/{node.total}", str(node.boxes), _state(node.ready, node.cordoned)]
        for node in status.nodes
    ]
    lines = _type_table(status.types, output)
    lines += ["", *output.table(["NODE", "TYPE", "FREE", "BOXES", "STATE"], nodes)]
    lines += simulated_line(node.gpu_type for node in status.nodes if node.simulated)
    if not status.problem_details:  # a server of 0.1.0: its warnings leave these out
        lines += [f"quarantined: {text}" for text in status.quarantined]
    problems = wordings(status.problem_details, status.warnings)
    lines += [f"{output.paint('warning', 'yellow')}: " + problem.line for problem in problems]
    return lines


def _type_table(types: Sequence[TypeView], output: Output) -> list[str]:
    """Return a row for each type. FREE and the columns up to UNAVAILABLE add up to TOTAL; CORDONED counts some of them
    again. Of all these, columns of zeros are left out, except FREE.
    """
    rest = {
        "HELD": [view.held for view in types],
        "QUARANTINED": [view.quarantined for view in types],
        "OTHERS": [view.held_by_others for view in types],
        "UNAVAILABLE": [view.unavailable for view in types],
        "CORDONED": [view.cordoned for view in types],
    }
    columns = {
        "TYPE": [view.name for view in types],
        "TOTAL": [view.total for view in types],
        "FREE": [view.free for view in types],
        **{title: counts for title, counts in rest.items() if any(counts)},
        "LIVE": [view.live for view in types],
        "QUEUED": [view.queued for view in types],
    }
    rows = [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    return output.table([*columns], rows, spare=("CORDONED",))


def _state(ready: bool, cordoned: bool) -> str:
    if not ready:
        return "silent"
    return "cordoned" if cordoned else "ready"
