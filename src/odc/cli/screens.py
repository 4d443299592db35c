"""The screens of reservations, as lines of text from the server's views. Pure: the time and the terminal are
arguments. The details of one reservation: `show_screen.py`; the whole cloud: `cloud_screens.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from odc.api.messages.reservations import PublicView, ReservationView, SnapshotView
from odc.api.messages.users import Me
from odc.cli import times
from odc.cli.output import Output
from odc.cli.wrap import plain
from odc.domain.commands import gpu_dev, odc
from odc.domain.end_text import given_up_text
from odc.domain.names import cut, short
from odc.domain.status import ENDED, BoxStatus, EndCause, Status, TroubleKind, WaitsFor

SOON = timedelta(minutes=15)
HOME = "/home/dev"
LONGEST_COMMENT = 60
"""Characters of a key's comment that screens show."""
_RESERVE = "Next: " + gpu_dev("reserve")
OOM_TITLE = " "
"""Title of the column with `OOM 1`; the column is shown only if a reservation has a memory kill."""


def count_text(gpus: int, gpu_type: str) -> str:
    """Return `4 x h100`, or the type alone if it has no GPUs."""
    return f"{gpus} x {gpu_type}" if gpus else gpu_type


def count_of(view: ReservationView) -> str:
    """Return `count_text` of a reservation."""
    return count_text(view.gpus, view.gpu_type)


def title(view: ReservationView) -> str:
    """Return `train (b1946ac9)`; other users' reservations have no name."""
    return f"{view.name} ({short(view.id)})" if view.name else short(view.id)


def simulated(flag: bool) -> str:
    """Return the suffix for simulated GPUs; empty for real ones."""
    return " (simulated)" if flag else ""


def simulated_line(types: Iterable[str]) -> list[str]:
    """Return the line below a table that names its simulated types; none if all are real."""
    names = sorted(set(types))
    return [f"Simulated: {', '.join(names)}."] if names else []


def state_colour(view: ReservationView, now: datetime) -> str:
    """Return the colour of the state."""
    if view.state is Status.FAILED:
        return "red"
    if view.state is Status.ACTIVE:
        soon = view.expires_at is not None and view.expires_at - now < SOON
        return "yellow" if soon else "green" if view.mine else ""
    return "dim" if view.state in ENDED else "yellow"


def end_of(view: ReservationView) -> datetime | None:
    """Return when it ended, for its user: the expiry time, even if the snapshot took longer, else the actual end."""
    return view.expires_at if view.state is Status.EXPIRED and view.expires_at else view.ended_at


def until_cell(view: ReservationView, now: datetime) -> str:
    """Return the time of its next change, or of its end."""
    if view.state is Status.ACTIVE and view.expires_at:
        if view.expires_at <= now:
            return times.over(view.expires_at, now)
        text = f"{times.clock(view.expires_at, now)} ({times.span(view.expires_at - now)})"
        return text + (" ends soon" if view.expires_at - now < SOON else "")
    if view.state is Status.QUEUED and view.ready_by:
        return f"starts by {times.clock(view.ready_by, now)}"
    if view.state is Status.PREPARING and view.ready_by:
        return f"ready by {times.clock(view.ready_by, now)}"
    if view.estimate:
        return f"maybe {times.clock(view.estimate, now)}"
    if view.state in ENDED and (end := end_of(view)):
        return times.clock(end, now)
    return "-"


def place_cell(view: ReservationView) -> str:
    """Return its node, or its place in the queue."""
    if view.queue_position:
        return f"position {view.queue_position}"
    nodes = ", ".join(box.node for box in view.boxes)
    silent = " (unreachable)" if any(box.state is BoxStatus.UNREACHABLE for box in view.boxes) else ""
    return nodes + silent or "-"


def oom_cell(view: ReservationView) -> str:
    """Return `OOM 1`, the number of its processes that the kernel killed for memory; empty if there are none."""
    return f"OOM {view.out_of_memory.kills}" if view.out_of_memory else ""


def nothing_lines(user: str, status: str, ended: bool) -> list[str]:
    """Return the lines of `gpu-dev list` for an empty result; they name the filter.

    Args:
        user: `me`, `all`, or a user's name.
        status: the states, with commas; empty for any.
        ended: ended ones were asked for too.
    """
    everyone = gpu_dev("list --user all --all")
    if status:
        which = f"reservation that is {' or '.join(status.split(','))}"
        if user == "me":
            return [f"You have no {which}. All of yours: " + gpu_dev("list --all")]
        who = "Nobody has a" if user == "all" else f"{user} has no"
        return [f"{who} {which}. Everyone's: " + everyone]
    if user == "me":
        first = "No reservations." if ended else "No reservations now. Ended ones: " + gpu_dev("list --all")
        return [first, _RESERVE]
    if user == "all":
        return ["Nobody has a reservation. " + (_RESERVE if ended else "Ended ones: " + everyone)]
    return [f"{user} has no reservation. Everyone's: " + everyone]


def list_lines(
    views: Sequence[ReservationView], now: datetime, output: Output, nothing: Sequence[str] = ()
) -> list[str]:
    """Return the table of `gpu-dev list`, or the lines for an empty result."""
    if not views:
        return list(nothing) or nothing_lines("me", "", ended=False)
    others = any(not view.mine for view in views)
    header = ["NAME", "ID", "GPUS", "STATE", "UNTIL", "DISK", "NODE"]
    killed = any(view.out_of_memory for view in views)
    header += [OOM_TITLE] if killed else []
    header = ["USER", *header] if others else header
    rows = []
    for view in views:
        row = [
            view.name or "-",
            short(view.id),
            count_of(view),
            output.paint(view.state, state_colour(view, now)),
            until_cell(view, now),
            (view.disk or "none") if view.name else "-",
            place_cell(view),
        ]
        row += [oom_cell(view)] if killed else []
        rows.append([view.owner, *row] if others else row)
    lines = _with_places(header, rows, views, output)
    lines += [f"{view.name}: " + trouble_text(view) for view in views if view.trouble]
    return lines + simulated_line(view.gpu_type for view in views if view.simulated)


def _with_places(
    header: Sequence[str], rows: Sequence[list[str]], views: Sequence[ReservationView], output: Output
) -> list[str]:
    """Return the table; if the node column does not fit, the queue position is next to the time."""
    spare = ("NODE", "DISK")
    lines = output.table(header, rows, spare=spare)
    queued = [view for view in views if view.queue_position]
    if "NODE" in plain(lines[0]).split() or not plain(lines[0]).startswith(header[0]) or not queued:
        return lines
    until = header.index("UNTIL")
    placed = [
        [*row[:until], f"{row[until]}, {place_cell(view)}" if view in queued else row[until], *row[until + 1 :]]
        for row, view in zip(rows, views, strict=True)
    ]
    wider = output.table(header, placed, spare=spare)
    if plain(wider[0]).startswith(header[0]):
        return wider
    return [*lines, *(f"{title(view)}: {place_cell(view)}" for view in queued)]


def links(name: str) -> list[tuple[str, str]]:
    """Return links that open an editor in the box that ssh reaches by this name."""
    path = f"ssh-remote+{name}{HOME}"
    return [("VS Code", f"vscode://vscode-remote/{path}"), ("Cursor", f"cursor://vscode-remote/{path}")]


def headline(view: ReservationView, now: datetime, output: Output) -> str:
    """Return the first line of `gpu-dev show`."""
    state = output.paint(view.state, state_colour(view, now))
    what = f"{count_of(view)}{simulated(view.simulated)}"
    if view.state is Status.ACTIVE and view.expires_at:
        state += f" until {times.left(view.expires_at, now)}"
    elif view.state is Status.QUEUED and view.ready_by:
        state += f", starts by {times.until(view.ready_by, now)} at the latest"
    elif view.state is Status.PREPARING and view.ready_by:
        state += f", ready by {times.until(view.ready_by, now)} at the latest"
    elif view.state is Status.QUEUED:
        state += f", may start {times.until(view.estimate, now)}" if view.estimate else ", no promise yet"
    elif view.state in ENDED and (end := end_of(view)):
        state += f" {times.clock(end, now)}"
    return f"{title(view)}   {what}   {state}"


def ahead_text(view: ReservationView) -> str:
    """Return what it waits for: `user2, 8 x h100`, `another of yours, 8 x h100`, or `the snapshot of disk proj`."""
    found = view.waits_for
    if found is None or (found.reservation is None and found.kind is not WaitsFor.DISK):
        return view.ahead  # from an older server, or a kind that only a newer one knows
    if found.reservation is None:
        return f"the snapshot of disk {found.disk}"
    return public_text(found.reservation, is_mine=view.mine and found.mine)


def public_text(other: PublicView, is_mine: bool = False) -> str:
    """Return `user2, 8 x h100`, or `another of yours, 8 x h100`."""
    return f"{'another of yours' if is_mine else other.user}, {count_text(other.gpus, other.gpu_type)}"


def promise_line(view: ReservationView, now: datetime) -> str:
    """`Starts by 14:20 (in 38 min) at the latest. Ahead: user2, 8 x h100.`."""
    text = ahead_text(view)
    ahead = f" Ahead: {text}." if text else ""
    if view.ready_by:
        return f"Starts by {times.until(view.ready_by, now)} at the latest.{ahead}"
    if view.estimate:
        return f"May start at {times.until(view.estimate, now)}, when a node is added.{ahead}"
    return f"No promise yet.{ahead}"


def left_text(view: ReservationView) -> str:
    """Return the line for a user who stops waiting: the reservation's state, and the command to resume."""
    stays = "stays queued" if view.state is Status.QUEUED else "goes on"
    return f"{view.name} {stays}. Come back: " + gpu_dev(f"connect {view.name}")


def gpus_text(indexes: Sequence[int]) -> str:
    """Return `, GPU 3`, `, GPUs 0-3`, `, GPUs 0,2,5`, or empty text."""
    if not indexes:
        return ""
    if len(indexes) == 1:
        return f", GPU {indexes[0]}"
    together = list(indexes) == list(range(indexes[0], indexes[0] + len(indexes))) and len(indexes) > 2
    return f", GPUs {indexes[0]}-{indexes[-1]}" if together else f", GPUs {','.join(map(str, indexes))}"


def trouble_text(view: ReservationView) -> str:
    """Return what blocks it; for what an operator repairs, with the command."""
    if view.trouble_kind is TroubleKind.IMAGE:
        return f"{view.trouble}: sudo " + odc("image build")
    return view.trouble


def snapshot_text(view: ReservationView, snapshot: SnapshotView, now: datetime) -> str:
    """Return `snapshot 22:04:41`, with the day if it differs from the end's."""
    reference = view.ended_at.astimezone(now.tzinfo) if view.ended_at else now
    taken = snapshot.taken_at.astimezone(now.tzinfo)
    same_day = taken.date() == reference.date()
    return f"snapshot {taken:%H:%M:%S}" if same_day else f"snapshot {times.clock(taken, now, seconds=True)}"


def ended_sentence(view: ReservationView, now: datetime) -> str:
    """Return how it ended, in one line: `train expired yesterday 18:00. Disk proj safe, …`."""
    when = f" {times.clock(end, now)}" if (end := end_of(view)) else ""
    text = f"{view.name} {view.state}{when}" + (f": {why}" if (why := reason_text(view)) else "") + "."
    if view.disk and view.active_at is None and not view.disk_new:
        text += f" Disk {view.disk} is as it was."
    elif view.disk and view.snapshot and view.snapshot.verified:
        text += f" Disk {view.disk} safe, {snapshot_text(view, view.snapshot, now)} verified."
    return f"{text} Again: " + gpu_dev(f"reserve --like {view.name}")


def reason_text(view: ReservationView) -> str:
    """Return why it ended or goes back to the queue; empty while all is well."""
    gone = view.given_up
    if gone is None:
        return view.reason  # also what a daemon of version 0.1.0 sends: a whole sentence
    return given_up_text(view.detail, gone.phase, gone.limit_s, gone.last_attempt)


def end_sentence(view: ReservationView, now: datetime) -> str:
    """Return why a reservation is ending or has ended, and the next command."""
    if view.state is not Status.ENDING:
        return ended_sentence(view, now)
    if view.requeue:
        wait = gpu_dev(f"wait {view.name}")
        return f"{title(view)} goes back to the queue: {reason_text(view)}. Wait for it: {wait}"
    if view.ended_by:
        why = f"it was cancelled by {view.ended_by}"
    elif view.expires_at and view.expires_at <= now and view.cause is not EndCause.CANCELLED:
        why = f"it expired at {times.clock(view.expires_at, now)}"
    else:
        why = reason_text(view) or "it was cancelled"
    safe = f"Its disk {view.disk} is being made safe: " + gpu_dev(f"show {view.name}")
    again = "Again: " + gpu_dev(f"reserve --like {view.name}")
    return f"{title(view)} is ending: {why}. " + (safe if view.disk else again)


def unknown_me_lines() -> list[str]:
    """Return the lines of `me_lines` while the ODC daemon does not answer."""
    unknown = "unknown: the ODC daemon does not answer"
    return [f"you           {unknown}", f"github_user   {unknown}", f"keys          {unknown}"]


def me_lines(me: Me) -> list[str]:
    """Return the caller as the server identifies them, and the keys that open the caller's boxes."""
    lines = [f"you           {me.user} ({me.principal}){', operator' if me.admin else ''}"]
    lines.append(f"github_user   {me.github_user or 'not set'}")
    if me.github_fault:
        again = gpu_dev("config set github_user NAME")
        lines.append(f"              {me.github_fault}; the last good keys are used. Set it again: " + again)
    for number, key in enumerate(me.keys):
        label = "keys" if number == 0 else ""
        words = filter(None, (key.fingerprint, key.kind, cut(key.comment, LONGEST_COMMENT), f"({key.source})"))
        lines.append(f"{label:<13} {' '.join(words)}")
    if not me.keys:
        lines.append("keys          none; you cannot log in to a box without one")
    return lines
