"""`gpu-dev reserve`: ask, see what happens, connect."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import click

from odc.api.messages import ReservationView
from odc.cli import references, screens, ssh_files, times
from odc.cli.config import set_key_file
from odc.cli.context import Session
from odc.cli.local_keys import find_public_keys
from odc.cli.options import json_option, pass_session, yes_option
from odc.cli.waiting import follow
from odc.domain.errors import InvalidRequest
from odc.domain.limits import check_hours
from odc.domain.names import DEFAULT_DISK, NO_DISK, check_name, near_match
from odc.domain.requests import Reserve

NOTHING = "Nothing was reserved."


@dataclass(frozen=True)
class Wish:
    """What the user has said so far; None for what is still open."""

    gpu_type: str | None = None
    gpus: int | None = None
    hours: float | None = None
    name: str | None = None
    disk: str | None = None


@click.command(context_settings={"help_option_names": ["--help"]})
@click.option("--gpu-type", "-t", metavar="TYPE", help="GPU type; gpu-dev avail shows them.")
@click.option("--gpus", "-g", type=int, metavar="N", help="GPUs: 1, 2, 4, 8, up to a whole node.")
@click.option("--hours", "-h", type=float, metavar="H", help="Hours: 0.0833 (5 minutes) to 24.")
@click.option("--name", "-n", metavar="NAME", help="Its name; else the disk's.")
@click.option("--disk", metavar="NAME|none", help="Your disk that is its home; none is temporary. Else: default.")
@click.option("--no-persist", is_flag=True, help="The same as --disk none.")
@click.option("--like", metavar="ID|NAME", help="As that reservation was; other options change it.")
@click.option("--wait/--no-wait", "wait", default=None, help="Wait until it is ready. Usual on a terminal.")
@yes_option
@json_option
@pass_session
def reserve(
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
    wish = Wish(gpu_type, gpus, hours, name, NO_DISK if no_persist else disk)
    if like is not None:
        wish = _like(session, wish, like)
    try:
        request = _request(session, wish, yes, as_json)
        _ensure_key(session, yes)
        request = _confirm_disk(session, request, yes)
    except (KeyboardInterrupt, EOFError):
        session.output.note(NOTHING)
        sys.exit(130)
    view = session.client().send(request)
    if not isinstance(view, ReservationView):
        raise InvalidRequest("the cloud's answer is no reservation")
    _after(session, view, session.output.live if wait is None else wait, as_json)


def _like(session: Session, wish: Wish, reference: str) -> Wish:
    """The wish with what is open taken from another reservation."""
    other = references.find(session, reference)
    return Wish(
        gpu_type=wish.gpu_type or other.gpu_type,
        gpus=other.gpus if wish.gpus is None else wish.gpus,
        hours=other.hours if wish.hours is None else wish.hours,
        name=wish.name,
        disk=wish.disk or other.disk or NO_DISK,
    )


def _request(session: Session, wish: Wish, yes: bool, as_json: bool) -> Reserve:
    """The wish as a request; what is open is asked for, or refused by name without a terminal."""
    if wish.gpus is None and wish.gpu_type is not None and wish.gpu_type.startswith("cpu-"):
        wish = replace(wish, gpus=0)
    missing = [
        option
        for option, value in (("-t TYPE", wish.gpu_type), ("-g N", wish.gpus), ("-h HOURS", wish.hours))
        if value is None
    ]
    if missing and session.output.asks and not as_json:
        from odc.cli.interactive import ask_for

        wish = ask_for(session, wish, yes)
    elif missing:
        hint = ("for example", "gpu-dev reserve -t h100 -g 1 -h 2")
        raise InvalidRequest(f"missing: {', '.join(missing)}", hint)
    if wish.name is not None:
        check_name(wish.name, "reservation")
    if wish.disk not in (None, NO_DISK):
        check_name(str(wish.disk), "disk")
    return Reserve(
        gpu_type=str(wish.gpu_type),
        gpus=wish.gpus or 0,
        hours=check_hours(wish.hours),
        name=wish.name,
        disk=wish.disk or DEFAULT_DISK,
        new_disk=yes,
    )


def _ensure_key(session: Session, yes: bool) -> None:
    """Without a key nobody could enter the box: offer the one that lies here, before anything is queued."""
    if session.client().me().keys:
        return
    found = find_public_keys(session.home)
    github = ("GitHub's", "gpu-dev config set github_user NAME")
    if not found:
        raise InvalidRequest("you have set no SSH key", github, ("make one", "ssh-keygen -t ed25519"))
    own = ("this one", f"gpu-dev config set ssh_key {found[0]}")
    if not yes:
        if not session.output.asks:
            raise InvalidRequest("you have set no SSH key", own, github)
        import questionary

        if not questionary.confirm(f"You have set no SSH key. Use {found[0]}?").ask():
            raise KeyboardInterrupt
    session.output.note(set_key_file(session, found[0]))


def _confirm_disk(session: Session, request: Reserve, yes: bool) -> Reserve:
    """Ask before a disk is made that may be a slip of the keyboard."""
    if yes or not session.output.asks or request.disk in (NO_DISK, DEFAULT_DISK) or request.new_disk:
        return request
    names = [disk.name for disk in session.client().disks().disks]
    if request.disk in names:
        return request
    near = near_match(request.disk, names)
    if near is None:
        return request
    import questionary

    use, make = f"Use {near}", f"Create {request.disk}"
    answer = questionary.select(f"You have no disk {request.disk}. Did you mean {near}?", choices=[use, make]).ask()
    if answer is None:
        raise KeyboardInterrupt
    return _with_disk(request, near) if answer == use else _with_disk(request, request.disk)


def _with_disk(request: Reserve, disk: str) -> Reserve:
    import msgspec

    return msgspec.structs.replace(request, disk=disk, new_disk=True)


def _after(session: Session, view: ReservationView, wait: bool, as_json: bool) -> None:
    """Show what became of it, and wait for it if that is wanted."""
    output = session.output
    word = "Reserved" if view.state != "queued" else "Asked for"
    disk = f"disk {view.disk}{' (new)' if view.disk_new else ''}" if view.disk else "a temporary home"
    if not as_json:
        what = f"{screens.count_of(view)}{screens.simulated(view.simulated)}"
        output.line(f"{word} {what} for {times.hours_text(view.hours)}: {screens.title(view)}, {disk}")
    try:
        view = _planned(session, view)
        if wait:
            view = follow(session, view, ("active", "expired", "cancelled", "failed"))
    except KeyboardInterrupt:
        output.note("")
        output.note(
            f"{view.name} stays. Come back to it: gpu-dev connect {view.name}   End it: gpu-dev cancel {view.name}"
        )
        sys.exit(130)
    ssh_files.sync(session.folder, session.client().reservations().reservations)
    if as_json:
        output.json(view)
    else:
        output.lines(_result(session, view))
    if view.state in ("expired", "cancelled", "failed"):
        sys.exit(1)


def _planned(session: Session, view: ReservationView) -> ReservationView:
    """The view once the cloud has given it a promise or a place; that takes a moment, not a queue."""
    for _ in range(20):
        if view.state != "queued" or view.ready_by or view.estimate:
            return view
        view = session.client().reservation(view.id, wait_s=1, version=view.version)
    return view


def _result(session: Session, view: ReservationView) -> list[str]:
    now = session.now()
    if view.state == "active" and view.expires_at:
        return [
            f"Ready until {times.clock(view.expires_at, now)} ({times.hours_text(view.hours)}).   "
            f"ssh {view.name}   or   gpu-dev connect {view.name}",
            f"VS Code: {screens.links(view)[0][1]}",
        ]
    if view.state == "queued":
        lines = [f"Starts by {times.until(view.ready_by, now)} at the latest."] if view.ready_by else []
        lines += [f"Ahead: {view.ahead}"] if view.ahead else []
        return [*lines, f"Wait for it: gpu-dev wait {view.name}   or   gpu-dev connect {view.name}"]
    if view.state == "preparing":
        return [f"It is being made ready.   gpu-dev connect {view.name}"]
    return [screens.ended_sentence(view, now)]
