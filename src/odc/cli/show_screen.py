"""The screen of `gpu-dev show`: one reservation, live or ended, and its history. Pure: the time and the terminal are
arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from odc.api.messages.reservations import BoxView, History, PhaseView, ReservationView, SnapshotView
from odc.api.messages.storage import DiskView
from odc.cli import times
from odc.cli.output import Output
from odc.cli.screens import ahead_text, gpus_text, headline, links, reason_text, snapshot_text, trouble_text
from odc.cli.ssh_include import ENABLE
from odc.domain.box_report import HomeState, ServerState
from odc.domain.commands import gpu_dev
from odc.domain.limits import hours_text
from odc.domain.names import short
from odc.domain.status import ENDED, BoxStatus, Status
from odc.domain.storage import gib_text

ALMOST, FULL = 0.8, 0.98
"""Parts of a box's writable layer from which it is called almost full, and full."""
_SHOWN_HISTORY = 2**20
"""Bytes of snapshots that are worth a word."""


def show_lines(
    view: ReservationView,
    now: datetime,
    output: Output,
    disk: DiskView | None = None,
    by_name: str = "",
    otherwise: str = ENABLE,
) -> list[str]:
    """Return the lines of `gpu-dev show`.

    Args:
        view: the reservation.
        now: in the reader's zone.
        output: the terminal.
        disk: its disk, from the list of disks; None if that was not requested.
        by_name: the name by which the reader's ssh reaches it; empty if there is none.
        otherwise: the command to show if there is no such name.
    """
    if not view.name:
        return [headline(view, now, output), *_aligned([("owner", view.owner), *_time_facts(view, now)])]
    if view.state in ENDED:
        return ended_lines(view, now, output)
    return [
        headline(view, now, output),
        "",
        *_aligned(_facts(view, now, disk, by_name or otherwise)),
        "",
        _next_line(view),
    ]


def _aligned(facts: Sequence[tuple[str, str]]) -> list[str]:
    width = max(9, *(len(name) for name, _ in facts)) if facts else 0
    return [f"  {name:<{width}} " + text for name, text in facts]


def _facts(view: ReservationView, now: datetime, disk: DiskView | None, by_name: str) -> list[tuple[str, str]]:
    facts = [] if view.mine else [("owner", view.owner)]
    for box in view.boxes:
        facts += _box_facts(view, box, by_name)
    if view.queue_position:
        ahead = ahead_text(view)
        behind = f", behind {ahead}" if ahead else ""
        facts.append(("queue", f"position {view.queue_position}{behind}"))
    facts.append(("disk", disk_text(view, now, disk)))
    facts += oom_facts(view, now)
    if view.trouble:
        facts.append(("trouble", trouble_text(view) + "; it is tried again"))
    if _lacks_box(view):
        facts.append(("trouble", "its box is not there; if that stays so it ends with the reason"))
    if reason := reason_text(view):
        facts.append(("reason", reason))
    if view.attempt > 1:
        facts.append(("attempt", f"{view.attempt}"))
    return facts + _time_facts(view, now)


def oom_facts(view: ReservationView, now: datetime) -> list[tuple[str, str]]:
    """Return `OOM 14:41 python (1 time); the box went on`, or empty text."""
    found = view.out_of_memory
    if found is None:
        return []
    when = f"{times.clock(found.last_at, now)} " if found.last_at else ""
    count = "1 time" if found.kills == 1 else f"{found.kills} times"
    then = "the box was started again" if found.stopped else "the box went on"
    return [("OOM", f"{when}{found.command or 'a process'} ({count}); {then}")]


def _lacks_box(view: ReservationView) -> bool:
    """Whether somebody took away a box that should run."""
    return view.state is Status.ACTIVE and any(box.state is BoxStatus.ABSENT for box in view.boxes)


def _box_facts(view: ReservationView, box: BoxView, by_name: str) -> list[tuple[str, str]]:
    facts = []
    if box.ssh and view.state in (Status.PREPARING, Status.ACTIVE):
        named = view.mine and box.rank == 0
        is_known = " " not in by_name
        facts.append(("ssh", (f"ssh {by_name}        " if named and is_known else "") + box.ssh.command))
        if named:
            facts += links(by_name) if is_known else [("names", by_name)]
    where = f"{box.name} on {box.node}{gpus_text(box.gpu_indexes)}"
    share = f", {box.cpus} CPU{'s' if box.cpus > 1 else ''}, {box.memory_gib:g} GiB" if box.cpus else ""
    odd = f", {box.state}" if box.state is not BoxStatus.RUNNING else ""
    return [*facts, ("box", where + share + odd), *_layer_facts(box), *_report_facts(box)]


def _layer_facts(box: BoxView) -> list[tuple[str, str]]:
    """Return a warning if the space outside the home is full or nearly full."""
    used, limit = box.layer_used_bytes, box.layer_bytes
    if not used or not limit or used < ALMOST * limit:
        return []
    full = "full" if used > FULL * limit else "almost full"
    text = f"{full}: {gib_text(used)} of {gib_text(limit)} used outside the home; delete files in /tmp or /"
    return [("root disk", text)]


def _report_facts(box: BoxView) -> list[tuple[str, str]]:
    """Return what is wrong inside the box, as far as the box has reported it."""
    report = box.report
    if report is None:
        return []
    troubles = [
        "sshd is not running in the box" if report.sshd is ServerState.STOPPED else "",
        "the home is read-only" if report.home is HomeState.READ_ONLY else "",
        "the home is missing" if report.home is HomeState.MISSING else "",
        f"the box could not set up: {', '.join(report.not_set_up)}" if report.not_set_up else "",
    ]
    return [("trouble", text) for text in troubles if text]


def _time_facts(view: ReservationView, now: datetime) -> list[tuple[str, str]]:
    asked = times.clock(view.created_at, now)
    if view.active_at is None:
        return [("asked", f"{asked}, for {hours_text(view.hours)}"), *_phase_facts(view.phases, now)]
    seconds = sum(phase.seconds or 0.0 for phase in view.phases)
    ready = f", ready after {seconds:.1f} s" if seconds and view.state is Status.ACTIVE else ""
    text = f"{times.clock(view.active_at, now)}, asked {asked}{ready}"
    return [("started", text), *_phase_facts(view.phases, now)]


def _phase_facts(phases: Sequence[PhaseView], now: datetime) -> list[tuple[str, str]]:
    done = ", ".join(_phase_text(phase, now) for phase in phases)
    return [("phases", done)] if done else []


def _phase_text(phase: PhaseView, now: datetime) -> str:
    """`disk 0.2 s`; of the phase under way, `ssh for 40 s: what it waits for`."""
    if phase.seconds is not None:
        return f"{phase.name} {phase.seconds:.1f} s"
    if phase.since is None:
        return f"{phase.name} …"
    waited = max((now - phase.since).total_seconds(), 0.0)
    return f"{phase.name} for {waited:.0f} s: {phase.detail}"


def _next_line(view: ReservationView) -> str:
    if not view.mine:
        return "End it: " + gpu_dev(f"cancel {short(view.id)}")
    wait = "Wait for it: " + gpu_dev(f"wait {view.name}")
    if view.state is Status.ENDING and view.requeue:
        return "It goes back to the queue, at its old place. " + wait
    if view.state is Status.ENDING:
        safe = f"Its disk {view.disk} is being made safe. " if view.disk else ""
        return f"{safe}Again: " + gpu_dev(f"reserve --like {view.name}")
    if _lacks_box(view):
        return "Look again: " + gpu_dev(f"show {view.name}")
    if view.state is Status.ACTIVE:
        return "Next: " + gpu_dev(f"connect {view.name}")
    return wait


def disk_text(view: ReservationView, now: datetime, disk: DiskView | None = None) -> str:
    """Return the disk, its usage, and its last snapshot."""
    if view.disk is None:
        return "none: the home is temporary, and lost at the end"
    size = ""
    if disk is not None:
        total = gib_text(disk.size_bytes)
        used = gib_text(disk.used_bytes).removesuffix(total[total.index(" ") :]) if disk.used_bytes else ""
        size = f", {used} of {total}" if used else f", {total}"
    if disk is not None and (disk.history_bytes or 0) >= _SHOWN_HISTORY:
        size += f", {gib_text(disk.history_bytes or 0)} more in snapshots"
    fault = f", {disk.fault}" if disk is not None and disk.fault else ""
    if view.snapshot is None:
        return f"{view.disk}{size}, {'new' if view.disk_new else 'no snapshot yet'}{fault}"
    taken = times.clock(view.snapshot.taken_at, now)
    return f"{view.disk}{size}, last snapshot {taken}, {_verified(view.snapshot)}{fault}"


def _verified(snapshot: SnapshotView) -> str:
    return "verified" if snapshot.verified else "not verified"


def ended_lines(view: ReservationView, now: datetime, output: Output) -> list[str]:
    """Return how a reservation ended, and the state of its disk."""
    facts = [] if view.mine else [("owner", view.owner)]
    if reason := reason_text(view):
        facts.append(("reason", reason))
    if view.disk and view.active_at is None and not view.disk_new:
        facts.append(("disk", f"{view.disk} is as it was"))
    elif view.disk and view.snapshot:
        used = f", {gib_text(view.snapshot.used_bytes)}" if view.snapshot.used_bytes else ""
        safe = "is safe" if view.snapshot.verified else "is kept"
        text = f"{view.disk} {safe}: {snapshot_text(view, view.snapshot, now)}, {_verified(view.snapshot)}{used}"
        facts.append(("disk", text))
    elif view.disk and view.active_at is None:
        facts.append(("disk", f"{view.disk} was never written to"))
    elif view.disk:
        facts.append(("disk", f"{view.disk} is kept; the snapshot of this end is not kept any more"))
    facts += oom_facts(view, now)
    again = ["Again: " + gpu_dev(f"reserve --like {view.name}")] if view.mine else []
    return [headline(view, now, output), *_aligned([*facts, *_time_facts(view, now)]), *again]


def history_lines(history: History, me: str, now: datetime) -> list[str]:
    """Return the history of a reservation; each day is printed above its first event.

    Args:
        history: the events.
        me: the reader's name as an actor; empty if the reader does not appear in it.
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
