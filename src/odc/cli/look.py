"""Looking: list, show, avail, status."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from odc.api.messages import ReservationList
from odc.cli import references, screens, ssh_files, times
from odc.cli.context import Session
from odc.cli.options import json_option, pass_session
from odc.cli.settings_file import write_whole
from odc.domain.errors import ProviderUnavailable

EVERY_S = 2.0
CACHE = "list.json"


@click.command("list")
@click.option("--all", "-a", "ended", is_flag=True, help="Ended ones too.")
@click.option("--user", default="me", metavar="NAME|all", help="Another user's, or everyone's.")
@click.option("--status", default="", metavar="STATUS", help="Only these: active, queued, …; several with commas.")
@click.option("--watch", "-w", is_flag=True, help="Show it anew every 2 seconds.")
@json_option
@pass_session
def list_(session: Session, ended: bool, user: str, status: str, watch: bool, as_json: bool) -> None:
    """List your reservations."""

    def ask() -> ReservationList:
        answer = session.client().reservations(user=user, ended=ended, status=status)
        if user == "me" and not status:
            _keep(session, answer)
        return answer

    if as_json:
        session.output.json(ask())
    elif watch:
        _watch(session, lambda: screens.list_lines(ask().reservations, session.now(), session.output))
    else:
        try:
            answer = ask()
        except ProviderUnavailable as error:
            _show_stale(session)
            raise error
        session.output.lines(screens.list_lines(answer.reservations, session.now(), session.output))


def _keep(session: Session, answer: ReservationList) -> None:
    """Bring the SSH files up to date, and keep the list for a time when the cloud does not answer."""
    ssh_files.sync(session.folder, answer.reservations)
    write_whole(session.folder / CACHE, msgspec.json.encode(answer).decode())


def _show_stale(session: Session) -> None:
    """The last list that was seen, marked as old."""
    path: Path = session.folder / CACHE
    try:
        answer = msgspec.json.decode(path.read_bytes(), type=ReservationList)
    except (OSError, msgspec.MsgspecError):
        return
    now = session.now()
    session.output.line(f"STALE: as of {times.clock(answer.now, now)}; the cloud does not answer now")
    session.output.lines(screens.list_lines(answer.reservations, now, session.output))
    reachable = [view.name for view in answer.reservations if ssh_files.find_offline(session.folder, view.name)]
    if reachable:
        session.output.note(f"your boxes   ssh still works: gpu-dev connect {reachable[0]}")


def _watch(session: Session, draw: Callable[[], list[str]]) -> None:
    """Draw every two seconds, in place on a terminal, until Ctrl+C."""
    before = 0
    try:
        while True:
            try:
                lines = draw()
            except ProviderUnavailable as error:
                lines = [f"{error.message}; trying again"]
            before = session.output.redraw(lines, before if session.output.live else 0)
            time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return


@click.command()
@click.argument("reference", metavar="[ID]", required=False)
@click.option("--history", is_flag=True, help="Tell its whole story.")
@json_option
@pass_session
def show(session: Session, reference: str | None, history: bool, as_json: bool) -> None:
    """Show everything about one reservation: by name, or by the beginning of its id."""
    view = references.find(session, reference)
    if history:
        story = session.client().history(view.id)
        if as_json:
            session.output.json(story)
        else:
            session.output.lines(screens.history_lines(story, view.owner if view.mine else "", session.now()))
    elif as_json:
        session.output.json(view)
    else:
        session.output.lines(screens.show_lines(view, session.now(), session.output))


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Show it anew every 2 seconds.")
@json_option
@pass_session
def avail(session: Session, watch: bool, as_json: bool) -> None:
    """Show what is free now, or when, for each type and count."""
    if as_json:
        session.output.json(session.client().avail())
    elif watch:
        _watch(session, lambda: screens.avail_lines(session.client().avail(), session.now(), session.output))
    else:
        session.output.lines(screens.avail_lines(session.client().avail(), session.now(), session.output))


@click.command()
@json_option
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Show the whole cloud: its types and nodes."""
    if as_json:
        session.output.json(session.client().status())
    else:
        session.output.lines(screens.status_lines(session.client().status(), session.output))
