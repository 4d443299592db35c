"""What `gpu-dev reserve` shows after its request: the promise, the progress, and how to connect.

The command imports this module once the request has been sent: the daemon starts the box meanwhile.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field

from odc.api.messages.reservations import ReservationView
from odc.cli import cloud_screens, local_state, screens, ssh_files, ssh_setup, times
from odc.cli.context import Session
from odc.cli.follow import follow
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, ProviderUnavailable
from odc.domain.limits import hours_text
from odc.domain.status import ENDED, Status, WaitsFor

MAX_PLAN_POLLS = 20


@dataclass
class LocalFilesWriter:
    """Writes the files for ssh while the box starts, so that the user does not wait for it afterwards.

    When the reservation has a place, everything is read, written, and asked of ssh, with an entry that refuses to
    connect. When the box is there, only its address and port are new.

    Attributes:
        session: the command's.
        name: the name by which ssh reaches it; empty while none does.
    """

    session: Session
    name: str = ""
    _facts: local_state.EntryFacts | None = field(default=None, init=False)
    _named: tuple[object, ...] = field(default=(), init=False)
    _written: tuple[object, ...] = field(default=(), init=False)

    def write(self, view: ReservationView) -> None:
        """Write the files for ssh if the view has a new place, address or port; otherwise only the cached list.

        Raises:
            ProviderUnavailable: the daemon does not answer.
        """
        if not ssh_files.has_boxes(view):
            return
        named = (view.attempt, view.name)
        written = (*named, view.state, *((box.name, box.ssh) for box in view.boxes))
        is_new = written != self._written
        if named != self._named or (is_new and self._facts is None):
            self._facts = None
            views = self.session.client().reservations().reservations
            with contextlib.suppress(OSError, InvalidRequest):  # what writes the files reports it
                self._facts = local_state.read_facts(self.session, views)
            local_state.update(self.session, views, self._facts)
            self.name = ssh_setup.ssh_name(self.session, view)
        elif is_new and self._facts is not None:
            local_state.update_entry(self.session, view, self._facts)
        else:
            local_state.cache_view(self.session, view)
        self._named, self._written = named, written


def show_progress(session: Session, view: ReservationView, wait: bool, as_json: bool) -> None:
    """Show a new reservation, wait until it is ready if the user asked to, and end the command.

    Args:
        session: the command's.
        view: the reservation, as the request was answered.
        wait: until it is ready or has ended.
        as_json: print it as JSON.

    Raises:
        ProviderUnavailable: the daemon does not answer any more; the reservation stays.
        OSError: the answer cannot be written; the reservation stays.
        SystemExit: 130 if the user interrupted, 1 if the reservation has ended.
    """
    output = session.output
    ways = ("see it", gpu_dev(f"show {view.name}")), ("cancel it", gpu_dev(f"cancel {view.name}"))
    session.record_done(f"reserved {screens.title(view)}", *ways)
    writer = LocalFilesWriter(session)
    try:
        view = _planned(session, view)
        if not as_json:
            output.lines(_asked_lines(session, view, wait))
        if wait:
            seen = None if as_json else view
            view = follow(session, view, (Status.ACTIVE, *ENDED), known=seen, meanwhile=writer.write)
    except KeyboardInterrupt:
        output.note("")
        output.note(screens.left_text(view))
        output.note("End it: " + gpu_dev(f"cancel {view.name}"))
        sys.exit(130)
    except ProviderUnavailable as error:
        known = ("it was requested", gpu_dev(f"show {view.id[:8]}"))
        raise ProviderUnavailable(error.message, *error.hints, known) from error
    _write_local_files(session, writer, view)
    failed = view.state in ENDED
    if as_json:
        output.json(view)
    elif failed:
        output.note(output.paint("error: ", "red") + screens.ended_sentence(view, session.now()))
    else:
        output.lines(_result(session, view, writer.name))
    if failed:
        sys.exit(1)


def _write_local_files(session: Session, writer: LocalFilesWriter, view: ReservationView) -> None:
    """Write the files for ssh, or remove those of a reservation that has ended."""
    if ssh_files.has_boxes(view):
        writer.write(view)
    else:
        local_state.sync(session)


def _planned(session: Session, view: ReservationView) -> ReservationView:
    """Return the view once the scheduler has given it a promise or a place, which takes one pass."""
    for tries in range(MAX_PLAN_POLLS):
        if view.state is not Status.QUEUED or view.ready_by or view.estimate:
            return view
        if tries == 1:
            session.output.note("Waiting for the scheduler.")
        view = session.client().reservation(view.id, wait_s=1, version=view.version)
    return view


def _asked_lines(session: Session, view: ReservationView, wait: bool) -> list[str]:
    """Return the lines that repeat the request; while it is queued, its promise and how to wait for it later."""
    disk = f"disk {view.disk}{' (new)' if view.disk_new else ''}" if view.disk else "a temporary home"
    what = f"{screens.count_of(view)}{screens.simulated(view.simulated)} for {hours_text(view.hours)}"
    word = "Queued" if view.state is Status.QUEUED else "Reserved"
    lines = [f"{word} {what}: {screens.title(view)}, {disk}"]
    if view.state is Status.QUEUED:
        lines.append(screens.promise_line(view, session.now()))
    # A smaller request with the same disk would wait for the same snapshot.
    if view.state is Status.QUEUED and not (view.waits_for and view.waits_for.kind is WaitsFor.DISK):
        sooner = cloud_screens.sooner_line(session.client().avail(), view)
        lines += [sooner] if sooner else []
    if view.state is Status.QUEUED and wait:
        back = gpu_dev(f"connect {view.name}") + " comes back to it."
        lines.append("Waiting. Ctrl+C leaves it queued; " + back)
    return lines


def _result(session: Session, view: ReservationView, name: str) -> list[str]:
    now = session.now()
    connect = gpu_dev(f"connect {view.name}")
    if view.state is Status.ACTIVE and view.expires_at:
        ready = f"Ready until {times.clock(view.expires_at, now)} ({hours_text(view.hours)}).   "
        if not name:
            way = ssh_setup.names_command(session, view)
            return [ready + connect, "By name from ssh, VS Code and Cursor: " + way]
        by_name = f"VS Code: {screens.links(name)[0][1]}"
        return [f"{ready}ssh {name}   or   " + connect, by_name]
    if view.state is Status.QUEUED:
        return ["Connect when it is ready: " + connect]
    if view.state is Status.ENDING:
        return [screens.end_sentence(view, now)]
    return ["Starting up.   " + connect]
