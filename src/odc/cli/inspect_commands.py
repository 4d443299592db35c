"""Looking: list, show, avail, status."""

from __future__ import annotations

import click

from odc.api.messages.reservations import ReservationList, ReservationView
from odc.api.messages.storage import DiskView
from odc.cli import cloud_screens, local_state, reservation_lookup, screens, show_screen, ssh_files, ssh_setup, times
from odc.cli.context import Session
from odc.cli.live_screen import watch as watch_screen
from odc.cli.options import completed, json_option, pass_session, refuse_watched_json
from odc.cli.output import Output
from odc.domain.errors import ProviderUnavailable


@click.command("list")
@click.option("--all", "-a", "ended", is_flag=True, help="Include ended reservations.")
@click.option(
    "--user", default="me", metavar="NAME|all", help="List the reservations of another user, or of all users."
)
@click.option(
    "--status", default="", metavar="STATUS", help="Only reservations in these states, such as queued,active."
)
@click.option("--watch", "-w", is_flag=True, help="Refresh every 2 seconds; press q to quit.")
@json_option
@pass_session
def list_(session: Session, ended: bool, user: str, status: str, watch: bool, as_json: bool) -> None:
    """List your reservations."""
    refuse_watched_json(watch, as_json)
    status = ",".join(word.strip().lower() for word in status.split(",") if word.strip())

    def read_and_sync() -> ReservationList:
        answer = session.client().reservations(user=user, ended=ended, status=status)
        if user == "me" and not status and not ended:
            local_state.update(session, answer.reservations)
        else:
            local_state.sync(session)
        return answer

    def draw(output: Output) -> list[str]:
        nothing = screens.nothing_lines(user, status, ended)
        return screens.list_lines(read_and_sync().reservations, session.now(), output, nothing)

    if as_json:
        session.output.json(read_and_sync())
        return
    if watch:
        watch_screen(session, draw)
        return
    try:
        session.output.lines(draw(session.output))
    except ProviderUnavailable:
        _show_stale(session)
        raise


def _show_stale(session: Session) -> None:
    """Show the list that was seen last, marked as old."""
    cached = local_state.find_cached(session)
    if cached is None:
        return
    (seen, views), now = cached, session.now()
    session.output.line(f"STALE, as of {times.clock(seen, now)}: the ODC daemon does not answer.")
    session.output.lines(screens.list_lines(views, now, session.output))


@click.command()
@click.argument("reference", metavar="[ID]", required=False, shell_complete=completed)
@click.option("--history", is_flag=True, help="Show its event history.")
@json_option
@pass_session
def show(session: Session, reference: str | None, history: bool, as_json: bool) -> None:
    """Show everything about one reservation: by name, or by the beginning of its id."""
    view = reservation_lookup.find(session, reference, local_state.sync(session))
    if history:
        story = session.client().history(view.id)
        if as_json:
            session.output.json(story)
        else:
            session.output.lines(show_screen.history_lines(story, view.owner if view.mine else "", session.now()))
    elif as_json:
        session.output.json(view)
    else:
        by_name = ssh_setup.ssh_name(session, view) if ssh_files.has_boxes(view) else ""
        disk, otherwise = _disk_of(session, view), ssh_setup.names_command(session, view)
        lines = show_screen.show_lines(view, session.now(), session.output, disk, by_name, otherwise)
        session.output.lines(lines)


def _disk_of(session: Session, view: ReservationView) -> DiskView | None:
    if not view.mine or view.disk is None:
        return None
    return next((disk for disk in session.client().disks().disks if disk.name == view.disk), None)


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Refresh every 2 seconds; press q to quit.")
@json_option
@pass_session
def avail(session: Session, watch: bool, as_json: bool) -> None:
    """Show what is free now, or when, for each type and count."""
    refuse_watched_json(watch, as_json)

    def draw(output: Output) -> list[str]:
        return cloud_screens.avail_lines(session.client().avail(), session.now(), output)

    local_state.sync(session)
    if as_json:
        session.output.json(session.client().avail())
    elif watch:
        watch_screen(session, draw)
    else:
        session.output.lines(draw(session.output))


@click.command()
@json_option
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Show all GPU types and nodes."""
    local_state.sync(session)
    answer = session.client().status()
    if as_json:
        session.output.json(answer)
    else:
        session.output.lines(cloud_screens.status_lines(answer, session.output))
