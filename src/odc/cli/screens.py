"""What `gpu-dev` shows of reservations, as lines of text from the server's views. Pure: the time and the terminal are
arguments. The cloud as a whole: `cloud_screens.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from odc.api.messages import BoxView, DiskView, History, Me, PhaseView, ReservationView, SnapshotView
from odc.cli import times
from odc.cli.output import Output
from odc.domain.limits import hours_text
from odc.domain.names import short

SOON = timedelta(minutes=15)
HOME = "/home/dev"
LIVE = ("queued", "preparing", "active", "ending")
ENDED = ("expired", "cancelled", "failed")
_UNITS = ("bytes", "KB", "MB", "GB")


def count_text(gpus: int, gpu_type: str) -> str:
    """`4 x h100`, or the type alone where there are no GPUs."""
    return f"{gpus} x {gpu_type}" if gpus else gpu_type


def count_of(view: ReservationView) -> str:
    """The same of a reservation."""
    return count_text(view.gpus, view.gpu_type)


def title(view: ReservationView) -> str:
    """`train (b1946ac9)`; others' reservations have no name."""
    return f"{view.name} ({short(view.id)})" if view.name else short(view.id)


def simulated(flag: bool) -> str:
    """What stands beside GPUs that are pretended."""
    return " (simulated)" if flag else ""


def simulated_line(types: Iterable[str]) -> list[str]:
    """What a table says below it when some of its GPUs are pretended."""
    names = sorted(set(types))
    return [f"Simulated: {', '.join(names)}."] if names else []


def state_colour(view: ReservationView, now: datetime) -> str:
    """The colour that goes with the state."""
    if view.state == "failed":
        return "red"
    if view.state == "active":
        soon = view.expires_at is not None and view.expires_at - now < SOON
        return "yellow" if soon else "green" if view.mine else ""
    return "yellow" if view.state in LIVE else "dim"


def until_cell(view: ReservationView, now: datetime) -> str:
    """What comes next for it, or when it ended."""
    if view.state == "active" and view.expires_at:
        text = f"{times.clock(view.expires_at, now)} ({times.span(view.expires_at - now)})"
        return text + (" ends soon" if view.expires_at - now < SOON else "")
    if view.state == "queued" and view.ready_by:
        return f"starts by {times.clock(view.ready_by, now)}"
    if view.state == "preparing" and view.ready_by:
        return f"ready by {times.clock(view.ready_by, now)}"
    if view.estimate:
        return f"maybe {times.clock(view.estimate, now)}"
    if view.ended_at and view.state not in LIVE:
        return times.clock(view.ended_at, now)
    return "-"


def place_cell(view: ReservationView) -> str:
    """Its node, or its place in the queue."""
    if view.queue_position:
        return f"position {view.queue_position}"
    nodes = ", ".join(box.node for box in view.boxes)
    silent = " (unreachable)" if any(box.state == "unreachable" for box in view.boxes) else ""
    return nodes + silent or "-"


def nothing_line(user: str, status: str) -> str:
    """What `gpu-dev list` says when nothing is left of what was asked for: which of them were asked for.

    Args:
        user: `me`, `all`, or a user's name.
        status: the states, with commas; empty for any.
    """
    if user == "me" and not status:
        return "No reservations. Next: gpu-dev reserve"
    which = f" that is {' or '.join(status.split(','))}" if status else ""
    if user == "me":
        return f"You have no reservation{which}. All of yours: gpu-dev list --all"
    who = "Nobody has a" if user == "all" else f"{user} has no"
    return f"{who} reservation{which}. Everyone's: gpu-dev list --user all --all"


def list_lines(views: Sequence[ReservationView], now: datetime, output: Output, nothing: str = "") -> list[str]:
    """The table of `gpu-dev list`; or, if there are none, what that means."""
    if not views:
        return [nothing or nothing_line("me", "")]
    others = any(not view.mine for view in views)
    header = ["NAME", "ID", "GPUS", "STATE", "UNTIL", "DISK", "NODE"]
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
        rows.append([view.owner, *row] if others else row)
    lines = output.table(["USER", *header] if others else header, rows, spare=("NODE", "DISK"))
    lines += [f"{view.name}: {view.trouble}" for view in views if view.trouble]
    return lines + simulated_line(view.gpu_type for view in views if view.simulated)


def links(view: ReservationView) -> list[tuple[str, str]]:
    """Links that open an editor in the box."""
    path = f"ssh-remote+{view.name}{HOME}"
    return [("VS Code", f"vscode://vscode-remote/{path}"), ("Cursor", f"cursor://vscode-remote/{path}")]


def headline(view: ReservationView, now: datetime, output: Output) -> str:
    """The first line of `gpu-dev show`."""
    state = output.paint(view.state, state_colour(view, now))
    what = f"{count_of(view)}{simulated(view.simulated)}"
    if view.state == "active" and view.expires_at:
        state += f" until {times.left(view.expires_at, now)}"
    elif view.state == "queued" and view.ready_by:
        state += f", starts by {times.until(view.ready_by, now)} at the latest"
    elif view.state == "preparing" and view.ready_by:
        state += f", ready by {times.until(view.ready_by, now)} at the latest"
    elif view.state == "queued":
        state += f", may start {times.until(view.estimate, now)}" if view.estimate else ", no promise yet"
    elif view.state not in LIVE and view.ended_at:
        state += f" {times.clock(view.ended_at, now)}"
    return f"{title(view)}   {what}   {state}"


def promise_line(view: ReservationView, now: datetime) -> str:
    """`Starts by 14:20 (in 38 min) at the latest. Ahead: user2, 8 x h100.`."""
    ahead = f" Ahead: {view.ahead}." if view.ahead else ""
    if view.ready_by:
        return f"Starts by {times.until(view.ready_by, now)} at the latest.{ahead}"
    if view.estimate:
        return f"May start at {times.until(view.estimate, now)}, when a node is added.{ahead}"
    return f"No promise yet.{ahead}"


def left_text(view: ReservationView) -> str:
    """What stays when one stops waiting, and how to come back."""
    stays = "stays queued" if view.state == "queued" else "goes on"
    return f"{view.name} {stays}. Come back: gpu-dev connect {view.name}"


def show_lines(view: ReservationView, now: datetime, output: Output, disk: DiskView | None = None) -> list[str]:
    """The screen of `gpu-dev show`.

    Args:
        view: the reservation.
        now: in the reader's zone.
        output: the terminal.
        disk: its disk as `gpu-dev` knows it beside; None if it was not asked for.
    """
    if not view.name:
        return [headline(view, now, output), *_aligned([("owner", view.owner), *_time_facts(view, now)])]
    if view.state not in LIVE:
        return ended_lines(view, now, output)
    return [headline(view, now, output), "", *_aligned(_facts(view, now, disk)), "", _next_line(view)]


def _aligned(facts: Sequence[tuple[str, str]]) -> list[str]:
    width = max(9, *(len(name) for name, _ in facts)) if facts else 0
    return [f"  {name:<{width}} {text}" for name, text in facts]


def _facts(view: ReservationView, now: datetime, disk: DiskView | None) -> list[tuple[str, str]]:
    facts = [] if view.mine else [("owner", view.owner)]
    for box in view.boxes:
        facts += _box_facts(view, box)
    if view.queue_position:
        facts.append(("queue", f"position {view.queue_position}" + (f", behind {view.ahead}" if view.ahead else "")))
    facts.append(("disk", disk_text(view, now, disk)))
    if view.trouble:
        facts.append(("trouble", f"{view.trouble}; it is tried again"))
    if view.reason:
        facts.append(("reason", view.reason))
    if view.attempt > 1:
        facts.append(("attempt", f"{view.attempt}"))
    return facts + _time_facts(view, now)


def _box_facts(view: ReservationView, box: BoxView) -> list[tuple[str, str]]:
    facts = []
    if box.ssh and view.state in ("preparing", "active"):
        by_name = f"ssh {view.name}        " if view.mine and box.rank == 0 else ""
        facts.append(("ssh", by_name + box.ssh.command))
        if view.mine and box.rank == 0:
            facts += links(view)
    where = f"{box.name} on {box.node}{gpus_text(box.gpu_indexes)}"
    share = f", {box.cpus} CPU{'s' if box.cpus > 1 else ''}, {box.memory_gib:g} GiB" if box.cpus else ""
    odd = f", {box.state}" if box.state not in ("running", "") else ""
    return [*facts, ("box", where + share + odd)]


def gpus_text(indexes: Sequence[int]) -> str:
    """`, GPU 3`, `, GPUs 0-3`, `, GPUs 0,2,5`, or nothing."""
    if not indexes:
        return ""
    if len(indexes) == 1:
        return f", GPU {indexes[0]}"
    together = list(indexes) == list(range(indexes[0], indexes[0] + len(indexes))) and len(indexes) > 2
    return f", GPUs {indexes[0]}-{indexes[-1]}" if together else f", GPUs {','.join(map(str, indexes))}"


def _time_facts(view: ReservationView, now: datetime) -> list[tuple[str, str]]:
    asked = times.clock(view.created_at, now)
    if view.active_at is None:
        return [("asked", f"{asked}, for {hours_text(view.hours)}"), *_phase_facts(view.phases)]
    seconds = sum(phase.seconds or 0.0 for phase in view.phases)
    ready = f", ready after {seconds:.1f} s" if seconds and view.state == "active" else ""
    text = f"{times.clock(view.active_at, now)}, asked {asked}{ready}"
    return [("started", text), *_phase_facts(view.phases)]


def _phase_facts(phases: Sequence[PhaseView]) -> list[tuple[str, str]]:
    done = ", ".join(f"{p.name} {p.seconds:.1f} s" if p.seconds is not None else f"{p.name} …" for p in phases)
    return [("phases", done)] if done else []


def _next_line(view: ReservationView) -> str:
    if not view.mine:
        return f"End it: gpu-dev cancel {view.id}"
    if view.state == "ending" and view.requeue:
        return f"It goes back to the queue, at its old place. Wait for it: gpu-dev wait {view.name}"
    if view.state == "ending":
        safe = f"Its disk {view.disk} is being made safe. " if view.disk else ""
        return f"{safe}Again: gpu-dev reserve --like {view.name}"
    if view.state == "active":
        return f"Next: gpu-dev connect {view.name}"
    return f"Wait for it: gpu-dev wait {view.name}"


def disk_text(view: ReservationView, now: datetime, disk: DiskView | None = None) -> str:
    """The disk, how full it is, and its last snapshot."""
    if view.disk is None:
        return "none: the home is temporary, and lost at the end"
    size = ""
    if disk is not None:
        total = size_text(disk.size_bytes)
        used = size_text(disk.used_bytes).removesuffix(total[total.index(" ") :]) if disk.used_bytes else ""
        size = f", {used} of {total}" if used else f", {total}"
    fault = f", {disk.fault}" if disk is not None and disk.fault else ""
    if view.snapshot is None:
        return f"{view.disk}{size}, {'new' if view.disk_new else 'no snapshot yet'}{fault}"
    taken = times.clock(view.snapshot.taken_at, now)
    return f"{view.disk}{size}, last snapshot {taken}, {_verified(view.snapshot)}{fault}"


def size_text(size_bytes: int) -> str:
    """`12 GB`, `0.5 GB`, `64 KB`: in steps of 1024; half of a unit or more counts as that unit."""
    value, unit = float(size_bytes), 0
    while value >= 512 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    number = f"{value:.0f}" if value >= 10 or not unit else f"{value:.1f}".removesuffix(".0")
    return f"{number} {_UNITS[unit]}"


def _verified(snapshot: SnapshotView) -> str:
    return "verified" if snapshot.verified else "not verified"


def _snapshot_text(view: ReservationView, snapshot: SnapshotView, now: datetime) -> str:
    """`snapshot 22:04:41`, with the day where it is not the end's."""
    beside = view.ended_at.astimezone(now.tzinfo) if view.ended_at else now
    taken = snapshot.taken_at.astimezone(now.tzinfo)
    same_day = taken.date() == beside.date()
    return f"snapshot {taken:%H:%M:%S}" if same_day else f"snapshot {times.clock(taken, now, seconds=True)}"


def ended_lines(view: ReservationView, now: datetime, output: Output) -> list[str]:
    """How a reservation ended, and that its disk is safe."""
    facts = [] if view.mine else [("owner", view.owner)]
    if view.reason:
        facts.append(("reason", view.reason))
    if view.disk and view.snapshot:
        used = f", {size_text(view.snapshot.used_bytes)}" if view.snapshot.used_bytes else ""
        safe = "is safe" if view.snapshot.verified else "is kept"
        text = f"{view.disk} {safe}: {_snapshot_text(view, view.snapshot, now)}, {_verified(view.snapshot)}{used}"
        facts.append(("disk", text))
    elif view.disk:
        facts.append(
            ("disk", f"{view.disk} was never written to" if view.active_at is None else f"{view.disk} is kept")
        )
    again = [f"Again: gpu-dev reserve --like {view.name}"] if view.mine else []
    return [headline(view, now, output), *_aligned([*facts, *_time_facts(view, now)]), *again]


def ended_sentence(view: ReservationView, now: datetime) -> str:
    """The same in one line: `train expired yesterday 18:00. Disk proj safe, …`."""
    when = f" {times.clock(view.ended_at, now)}" if view.ended_at else ""
    text = f"{view.name} {view.state}{when}" + (f": {view.reason}" if view.reason else "") + "."
    if view.disk and view.snapshot and view.snapshot.verified:
        text += f" Disk {view.disk} safe, {_snapshot_text(view, view.snapshot, now)} verified."
    return f"{text} Again: gpu-dev reserve --like {view.name}"


def history_lines(history: History, me: str, now: datetime) -> list[str]:
    """The story of a reservation; the day stands above its first event.

    Args:
        history: the events.
        me: the reader's name as an actor; empty if the reader is none of them.
        now: in the reader's zone.
    """
    width = max((len(_actor(event.actor, me)) for event in history.events), default=0)
    lines: list[str] = []
    before = ""
    for event in history.events:
        at = event.at.astimezone(now.tzinfo)
        date = times.day(at, now)
        if date != before:
            lines.append(f"{date or 'today'}:")
            before = date
        when = f" {times.clock(event.when, now)}" if event.when else ""
        lines.append(f"{at:%H:%M:%S}  {_actor(event.actor, me):<{width}}  {event.text}{when}")
    return lines


def _actor(actor: str, me: str) -> str:
    return "you" if me and actor == me else actor


def me_lines(me: Me) -> list[str]:
    """Who the server takes the caller for, and the keys that open the caller's boxes."""
    lines = [f"you           {me.user} ({me.principal}){', operator' if me.admin else ''}"]
    lines.append(f"github_user   {me.github_user or 'not set'}")
    if me.github_fault:
        lines.append(f"              {me.github_fault}; the last good keys are used")
    for number, key in enumerate(me.keys):
        label = "keys" if number == 0 else ""
        lines.append(f"{label:<13} {key.fingerprint} {key.kind} {key.comment} ({key.source})")
    if not me.keys:
        lines.append("keys          none: nobody could enter a box of yours")
    return lines
