"""`gpu-dev reserve`: ask, see what happens, connect.

Modules that only the end of the command needs are imported once the request has been sent: loading them then costs no
time, since the daemon is already starting the box.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from odc.api.messages.reservations import ReservationView
from odc.cli import cloud_screens, name_conflicts, prompts, screens, times
from odc.cli.context import Session
from odc.cli.follow import follow
from odc.cli.options import completed, gpu_type_of, gpus_of, hours_of, json_option, pass_session, yes_option
from odc.cli.reserve_options import PartialRequest
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, ProviderUnavailable
from odc.domain.limits import hours_text
from odc.domain.names import DEFAULT_DISK, NO_DISK, probable_disk
from odc.domain.requests import Reserve
from odc.domain.status import ENDED, Status, WaitsFor

if TYPE_CHECKING:
    from odc.cli.local_state import EntryFacts

CANCELLED_NOTE = "Cancelled; nothing was reserved."
MAX_PLAN_POLLS = 20


@dataclass(frozen=True)
class RunMode:
    """RunMode the command runs: whether it asks questions, accepts its own suggestions, waits, prints JSON."""

    can_prompt: bool
    yes: bool
    wait: bool
    as_json: bool


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
    _facts: EntryFacts | None = field(default=None, init=False)
    _views: tuple[ReservationView, ...] = field(default=(), init=False)
    _named: tuple[object, ...] = field(default=(), init=False)
    _written: tuple[object, ...] = field(default=(), init=False)

    def write(self, view: ReservationView) -> None:
        """Write the files for ssh if the view has a new place, address or port; otherwise only the cached list.

        Raises:
            ProviderUnavailable: the daemon does not answer.
        """
        from odc.cli import local_state, ssh_files, ssh_setup

        if not ssh_files.has_boxes(view):
            return
        named = (view.attempt, view.name)
        written = (*named, *((box.name, box.ssh) for box in view.boxes))
        is_new = written != self._written
        if named != self._named or (is_new and self._facts is None):
            self._facts = None
            self._views = self.session.client().reservations().reservations
            with contextlib.suppress(OSError, InvalidRequest):  # what writes the files reports it
                self._facts = local_state.read_facts(self.session, self._views)
            local_state.update(self.session, self._views, self._facts)
            self.name = ssh_setup.ssh_name(self.session, view)
        else:
            self._views = tuple(view if other.id == view.id else other for other in self._views)
            if is_new and self._facts is not None:
                local_state.update_entry(self.session, view, self._views, self._facts)
            else:
                local_state.cache_list(self.session, self._views)
        self._named, self._written = named, written


@click.command(context_settings={"help_option_names": ["--help"]})
@click.option(
    "--gpu-type",
    "-t",
    callback=gpu_type_of,
    metavar="TYPE",
    help="GPU type, such as h100 or cpu-x86; gpu-dev avail shows them.",
)
@click.option("--gpus", "-g", callback=gpus_of, metavar="N", help="Number of GPUs: 1, 2, 4, 8, up to a whole node.")
@click.option("--hours", "-h", callback=hours_of, metavar="H", help="Hours: 0.0833 (5 minutes) to 24.")
@click.option("--name", "-n", metavar="NAME", help="Name of the reservation; by default the disk's.")
@click.option(
    "--disk", metavar="NAME|none", help="Disk to mount as the home; none for a temporary home. By default: default."
)
@click.option("--no-persist", is_flag=True, help="The same as --disk none.")
@click.option(
    "--like",
    metavar="ID|NAME",
    shell_complete=completed,
    help="Copy the options of an earlier reservation; other flags override them.",
)
@click.option("--wait/--no-wait", "wait", default=None, help="Wait until it is ready; by default only on a terminal.")
@yes_option
@json_option
@pass_session
def reserve(  # noqa: PLR0913, PLR0917 - click passes each option as an argument
    session: Session,
    gpu_type: str | None,
    gpus: int | None,
    hours: float | None,
    name: str | None,
    disk: str | None,
    no_persist: bool,
    like: str | None,
    wait: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Reserve GPUs. Asks when options are missing and there is a terminal."""
    if no_persist and disk not in (None, NO_DISK):
        raise InvalidRequest("--no-persist and --disk together; give one of them")
    partial = PartialRequest(gpu_type, gpus, hours, name, NO_DISK if no_persist else disk)
    output = session.output
    mode = RunMode(
        output.can_prompt and not as_json, yes, output.live and not as_json if wait is None else wait, as_json
    )
    try:
        request = _request(session, partial, like, mode)
    except (KeyboardInterrupt, EOFError):
        output.note(CANCELLED_NOTE)
        sys.exit(130)
    try:
        view = session.client().reserve(request)
    except KeyboardInterrupt:
        output.note("Interrupted; the reservation may or may not have been made. Check: " + gpu_dev("list"))
        sys.exit(130)
    _show_progress(session, view, mode)


def _request(session: Session, partial: PartialRequest, like: str | None, mode: RunMode) -> Reserve:
    """Return the partial request as a complete one; open fields are asked for before anything is queued."""
    partial.check()
    if like is not None:
        from odc.cli import local_state, reservation_lookup

        live = local_state.sync(session)
        other = reservation_lookup.find(session, like, live)
        if not other.mine:
            alike = PartialRequest(other.gpu_type, other.gpus, other.hours).command()
            raise InvalidRequest(f"{screens.title(other)} is {other.owner}'s, not yours", ("the same GPUs", alike))
        partial = partial.like(other, frozenset(view.name for view in live))
    if mode.can_prompt:
        # Check for a key first, so that the user does not answer every prompt in vain.
        _ensure_key(session, mode)
    partial = _completed(session, partial, mode)
    partial.check()
    if not mode.can_prompt:
        _ensure_key(session, mode)
    partial, means_new = _confirmed_disk(session, partial, mode)
    partial = name_conflicts.resolve_name(session, partial, mode.can_prompt, mode.yes)
    return partial.request(new_disk=means_new)


def _completed(session: Session, partial: PartialRequest, mode: RunMode) -> PartialRequest:
    """Ask for the open fields; without a terminal, raise `InvalidRequest` that names them."""
    if not partial.missing:
        return partial
    from odc.cli import interactive

    avail = session.client().avail()
    partial = interactive.with_known_type(partial, avail)
    if not partial.missing:
        return partial
    if not mode.can_prompt:
        example = ("for example", interactive.example(partial, avail).command())
        raise InvalidRequest(f"missing: {', '.join(partial.missing)}", example, ("available types", gpu_dev("avail")))
    return interactive.prompt_for_missing(session, partial, avail, mode.yes)


def _ensure_key(session: Session, mode: RunMode) -> None:
    """Offer a key of this machine if the user has set none, before anything is queued: the box has no other login."""
    if session.client().me().keys:
        return
    from odc.cli.config import set_key_file, set_keys
    from odc.cli.local_keys import agent_keys, agent_socket, find_public_keys, in_home

    files = find_public_keys(session.home)
    held = agent_keys(agent_socket(session.agent, session.account_home or session.home))
    own: tuple[str, str]
    if files:
        what = in_home(session.home, files[0])
        own = ("this one", gpu_dev(f"config set ssh_key {what}"))
    elif held:
        what = "what your SSH agent holds"
        own = ("your agent's", "ssh-add -L > ~/agent.pub && " + gpu_dev("config set ssh_key ~/agent.pub"))
    else:
        own = ("make one", "ssh-keygen -t ed25519")
    if not (files or held) or not (mode.yes or mode.can_prompt):
        raise InvalidRequest("you have set no SSH key", own, ("GitHub's", gpu_dev("config set github_user NAME")))
    if not mode.yes and not prompts.confirm(f"You have set no SSH key. Use {what}?"):
        raise KeyboardInterrupt
    session.output.note(set_key_file(session, files[0]) if files else f"Your agent's: {set_keys(session, tuple(held))}")


def _confirmed_disk(session: Session, partial: PartialRequest, mode: RunMode) -> tuple[PartialRequest, bool]:
    """Return the request with the disk that the user confirmed, and whether it must be new: a name may be mistyped."""
    name = partial.disk or DEFAULT_DISK
    if mode.yes or name in (NO_DISK, DEFAULT_DISK):
        return partial, mode.yes
    found = session.client().disks()
    names = [disk.name for disk in found.disks]
    near = probable_disk(name, names)
    # A disk without a record is refused by the server, with the command that recovers it.
    if near is None or name in (*names, *(orphan.name for orphan in found.orphaned)):
        return partial, False
    if not mode.can_prompt:
        raise InvalidRequest(
            f"you have no disk {name}; did you mean {near}?",
            ("that one", replace(partial, disk=near).command()),
            ("a new one", partial.command() + " --yes"),
        )
    lines = [(f"Use {near}", near), (f"Create {name}", name)]
    chosen = prompts.select(f"You have no disk {name}. Did you mean {near}?", lines)
    return replace(partial, disk=str(chosen)), chosen == name


def _show_progress(session: Session, view: ReservationView, mode: RunMode) -> None:
    """Show the reservation, and wait until it is ready if the user asked to."""
    output = session.output
    writer = LocalFilesWriter(session)
    try:
        view = _planned(session, view)
        if not mode.as_json:
            output.lines(_asked_lines(session, view, mode))
        if mode.wait:
            seen = None if mode.as_json else view
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
    if mode.as_json:
        output.json(view)
    elif failed:
        output.note(output.paint("error: ", "red") + screens.ended_sentence(view, session.now()))
    else:
        output.lines(_result(session, view, writer.name))
    if failed:
        sys.exit(1)


def _write_local_files(session: Session, writer: LocalFilesWriter, view: ReservationView) -> None:
    """Write the files for ssh, or remove those of a reservation that has ended."""
    from odc.cli import local_state, ssh_files

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


def _asked_lines(session: Session, view: ReservationView, mode: RunMode) -> list[str]:
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
    if view.state is Status.QUEUED and mode.wait:
        back = gpu_dev(f"connect {view.name}") + " comes back to it."
        lines.append("Waiting. Ctrl+C leaves it queued; " + back)
    return lines


def _result(session: Session, view: ReservationView, name: str) -> list[str]:
    from odc.cli import ssh_setup

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
