"""What `gpu-dev` shows, as lines of text from the server's views. Pure: the time and the terminal are arguments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from odc.api.messages import (
    Availability,
    ChoiceView,
    History,
    Me,
    ReservationView,
    StatusView,
    TypeView,
)
from odc.cli import times
from odc.cli.output import Output
from odc.domain.names import short

SOON = timedelta(minutes=15)
HOME = "/home/dev"
LIVE = ("queued", "preparing", "active", "ending")
_GIB = 2**30


def count_of(view: ReservationView) -> str:
    """`4 x h100`, or the type alone where there are no GPUs."""
    return f"{view.gpus} x {view.gpu_type}" if view.gpus else view.gpu_type


def title(view: ReservationView) -> str:
    """`train (b1946ac9)`; others' reservations have no name."""
    return f"{view.name} ({short(view.id)})" if view.name else short(view.id)


def simulated(flag: bool) -> str:
    """What every screen says beside GPUs that are pretended."""
    return " (simulated)" if flag else ""


def state_colour(view: ReservationView, now: datetime) -> str:
    """The colour that goes with the state."""
    if view.state == "failed":
        return "red"
    if view.state == "active":
        soon = view.expires_at is not None and view.expires_at - now < SOON
        return "yellow" if soon else "green" if view.mine else ""
    return "yellow" if view.state in ("ending", "preparing") else "dim" if view.state not in LIVE else ""


def until_cell(view: ReservationView, now: datetime) -> str:
    """What comes next for it, or when it ended."""
    if view.state == "active" and view.expires_at:
        text = f"{times.clock(view.expires_at, now)} ({times.span(view.expires_at - now)})"
        return text + (" ending" if view.expires_at - now < SOON else "")
    if view.state in ("queued", "preparing") and view.ready_by:
        return f"starts by {times.clock(view.ready_by, now)}"
    if view.estimate:
        return f"maybe {times.clock(view.estimate, now)}"
    if view.ended_at and view.state not in LIVE:
        return times.clock(view.ended_at, now)
    return "-"


def place_cell(view: ReservationView) -> str:
    """Its node, or its place in the queue."""
    if view.queue_position:
        return f"position {view.queue_position}"
    return ", ".join(box.node for box in view.boxes) or "-"


def list_lines(views: Sequence[ReservationView], now: datetime, output: Output) -> list[str]:
    """The table of `gpu-dev list`."""
    if not views:
        return ["No reservations. Next: gpu-dev reserve"]
    others = any(not view.mine for view in views)
    header = ["NAME", "ID", "GPUS", "STATE", "UNTIL", "DISK", "NODE"]
    rows = []
    for view in views:
        row = [
            view.name or "-",
            short(view.id),
            count_of(view) + simulated(view.simulated),
            output.paint(view.state, state_colour(view, now)),
            until_cell(view, now),
            (view.disk or "none") if view.name else "-",
            place_cell(view),
        ]
        rows.append([view.owner, *row] if others else row)
    lines = output.table(["USER", *header] if others else header, rows)
    lines += [f"{view.name}: {view.trouble}" for view in views if view.trouble]
    return lines


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
    elif view.state not in LIVE and view.ended_at:
        return f"{title(view)}   {state} {times.clock(view.ended_at, now)}"
    return f"{title(view)}   {what}   {state}"


def _facts(view: ReservationView, now: datetime) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for box in view.boxes:
        if box.ssh and view.state in ("preparing", "active"):
            facts.append(("ssh", f"ssh {view.name}        {box.ssh.command}"))
            facts += links(view)
        indexes = f", GPUs {','.join(map(str, box.gpu_indexes))}" if box.gpu_indexes else ""
        facts.append(
            ("box", f"{box.name} on {box.node}{indexes}, {box.cpus} CPUs, {box.memory_gib:g} GiB, {box.state}")
        )
    if view.queue_position:
        ahead = f", behind {view.ahead}" if view.ahead else ""
        facts.append(("queue", f"position {view.queue_position}{ahead}"))
    facts.append(("disk", disk_text(view, now)))
    if view.trouble:
        facts.append(("trouble", f"{view.trouble}; trying again"))
    if view.reason:
        facts.append(("reason", view.reason))
    if view.phases:
        facts.append(("phases", ", ".join(f"{p.name} {p.seconds:.1f} s" for p in view.phases if p.seconds is not None)))
    facts.append(("asked", times.clock(view.created_at, now)))
    if view.active_at:
        facts.append(("started", times.clock(view.active_at, now)))
    return facts


def disk_text(view: ReservationView, now: datetime) -> str:
    """The disk and its last snapshot."""
    if view.disk is None:
        return "none: the home is temporary"
    if view.snapshot is None:
        return f"{view.disk}, no snapshot yet" + (" (new)" if view.disk_new else "")
    verified = "verified" if view.snapshot.verified else "not verified"
    used = f", {view.snapshot.used_bytes / _GIB:.1f} GB" if view.snapshot.used_bytes else ""
    return f"{view.disk}, last snapshot {times.clock(view.snapshot.taken_at, now)}, {verified}{used}"


def show_lines(view: ReservationView, now: datetime, output: Output) -> list[str]:
    """The screen of `gpu-dev show`."""
    if view.state not in LIVE:
        return ended_lines(view, now)
    if not view.name:
        return [headline(view, now, output), f"  owner     {view.owner}"]
    facts = _facts(view, now)
    width = max(len(name) for name, _ in facts)
    lines = [headline(view, now, output), "", *(f"  {name:<{width}}  {text}" for name, text in facts), ""]
    if view.state == "ending":
        lines.append(_ending_line(view))
    elif view.state == "active":
        lines.append(f"Next: gpu-dev connect {view.name}")
    else:
        lines.append(f"Wait for it: gpu-dev wait {view.name}")
    return lines


def _ending_line(view: ReservationView) -> str:
    if view.requeue:
        return f"It goes back to the queue: {view.reason}"
    if view.disk:
        return f"Its disk {view.disk} is being made safe. Again: gpu-dev reserve --like {view.name}"
    return f"Again: gpu-dev reserve --like {view.name}"


def ended_lines(view: ReservationView, now: datetime) -> list[str]:
    """How a reservation ended, and that its disk is safe."""
    when = f" {times.clock(view.ended_at, now)}" if view.ended_at else ""
    lines = [f"{title(view)}   {count_of(view)}{simulated(view.simulated)}   {view.state}{when}"]
    if view.reason:
        lines.append(f"  reason    {view.reason}")
    if view.disk and view.snapshot:
        taken = view.snapshot.taken_at.astimezone(now.tzinfo)
        verified = "verified" if view.snapshot.verified else "not verified"
        lines.append(f"  disk      {view.disk} is safe: snapshot {taken:%H:%M:%S}, {verified}")
    elif view.disk:
        lines.append(f"  disk      {view.disk} was never used")
    if view.name:
        lines.append(f"Again: gpu-dev reserve --like {view.name}")
    return lines


def ended_sentence(view: ReservationView, now: datetime) -> str:
    """The same in one line: `train expired 18:00 yesterday. Disk proj safe, …`."""
    when = f" {times.clock(view.ended_at, now)}" if view.ended_at else ""
    text = f"{view.name} {view.state}{when}" + (f": {view.reason}" if view.reason else "") + "."
    if view.disk and view.snapshot and view.snapshot.verified:
        taken = view.snapshot.taken_at.astimezone(now.tzinfo)
        text += f" Disk {view.disk} safe, snapshot {taken:%H:%M:%S} verified."
    return f"{text} Again: gpu-dev reserve --like {view.name}"


def history_lines(history: History, me: str, now: datetime) -> list[str]:
    """The story of a reservation."""
    lines = []
    for event in history.events:
        at = event.at.astimezone(now.tzinfo)
        actor = "you" if event.actor == me else event.actor
        when = f" {times.clock(event.when, now)}" if event.when else ""
        lines.append(f"{at:%H:%M:%S}  {actor:<8} {event.text}{when}")
    return lines


def choice_cell(choice: ChoiceView | None, now: datetime, server_now: datetime) -> str:
    """`now`, `now, 3 h`, `by 14:20`, or `-` for what never fits."""
    if choice is None or choice.start is None:
        return "-"
    if choice.start > server_now:
        return f"by {times.clock(choice.start, now)}"
    if choice.until is None or choice.until - server_now > timedelta(hours=24):
        return "now"
    return f"now, {times.span(choice.until - server_now)}"


def avail_lines(avail: Availability, now: datetime, output: Output) -> list[str]:
    """The table of `gpu-dev avail`."""
    if not avail.types:
        return ["This cloud has no nodes. The operator looks closer with: odc doctor"]
    counts = sorted({choice.gpus for view in avail.types if view.has_gpus for choice in view.choices})
    header = ["TYPE", "FREE", *(f"{count} GPU{'s' if count > 1 else ''}" for count in counts), "WAITING"]
    rows = [_avail_row(view, counts, avail.now, now) for view in avail.types]
    lines = output.table(header if counts else ["TYPE", "FREE", "NOW", "WAITING"], rows)
    cells = [cell for row in rows for cell in row]
    if any(cell.startswith("now, ") for cell in cells):
        lines.append('"now, 3 h": free now for at most 3 h.')
    if any(cell.startswith("by ") for cell in cells):
        lines.append('"by": promised, could be sooner.')
    return [*lines, "Next: gpu-dev reserve"]


def _avail_row(view: TypeView, counts: Sequence[int], server_now: datetime, now: datetime) -> list[str]:
    choices = {choice.gpus: choice for choice in view.choices}
    waiting = view.waiting + (f", {view.queued - 1} more" if view.queued > 1 else "") or "-"
    row = [view.name + simulated(view.simulated), f"{view.free}/{view.total}"]
    if view.has_gpus:
        row += [choice_cell(choices.get(count), now, server_now) for count in counts]
    else:
        row += [
            choice_cell(choices.get(0), now, server_now),
            *("(no GPUs)" if i == 0 else "" for i in range(len(counts) - 1)),
        ]
    return [*row, waiting]


def status_lines(status: StatusView, output: Output) -> list[str]:
    """The screen of `gpu-dev status`."""
    types = [
        [
            view.name + simulated(view.simulated),
            str(view.total),
            str(view.free),
            str(view.cordoned),
            str(view.live),
            str(view.queued),
        ]
        for view in status.types
    ]
    nodes = [
        [
            node.name,
            node.gpu_type + simulated(node.simulated),
            f"{node.free}/{node.total}",
            str(node.boxes),
            _node_state(node.ready, node.cordoned),
        ]
        for node in status.nodes
    ]
    lines = output.table(["TYPE", "TOTAL", "FREE", "CORDONED", "LIVE", "QUEUED"], types)
    lines += ["", *output.table(["NODE", "TYPE", "FREE", "BOXES", "STATE"], nodes)]
    lines += [f"quarantined: {text}" for text in status.quarantined]
    lines += [f"{output.paint('warning', 'yellow')}: {text}" for text in status.warnings]
    return lines


def _node_state(ready: bool, cordoned: bool) -> str:
    if not ready:
        return "silent"
    return "cordoned" if cordoned else "ready"


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
        lines.append("keys          none. Set them: gpu-dev config set github_user NAME")
    return lines
