"""Ending and waiting: cancel, wait."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime

import click

from odc.api.messages import ReservationView
from odc.cli import questions, references, screens
from odc.cli.context import Session
from odc.cli.options import json_option, pass_session, yes_option
from odc.cli.waiting import wait_for
from odc.domain.errors import InvalidRequest
from odc.domain.requests import Cancel

NOTHING = "Nothing was cancelled."


@click.command()
@click.argument("reference", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="All of yours.")
@yes_option
@json_option
@pass_session
def cancel(session: Session, reference: str | None, everything: bool, yes: bool, as_json: bool) -> None:
    """End a reservation now; its disk is kept. Without an ID, asks which."""
    try:
        views = _chosen(session, reference, everything)
        ending = [view for view in views if _can_end(view)]
        if ending and session.output.asks and not yes and not as_json:
            _confirm(ending)
    except KeyboardInterrupt:
        session.output.note(NOTHING)
        sys.exit(130)
    if not views:
        session.output.json([]) if as_json else session.output.line("You have no live reservation.")
        return
    ended = [_cancel_one(session, view) for view in views]
    references.live_views(session)
    if as_json:
        session.output.json(ended if everything or len(ended) != 1 else ended[0])
        return
    for view in ended:
        session.output.line(_told(view, session.now()))


def _chosen(session: Session, reference: str | None, everything: bool) -> Sequence[ReservationView]:
    if reference is not None and everything:
        raise InvalidRequest("--all and an ID together; give one of them")
    if reference is not None:
        return [references.find(session, reference)]
    live = [view for view in references.live_views(session) if _can_end(view)]
    if everything:
        return live
    if not live:
        raise InvalidRequest("you have no live reservation", ("the ended ones", "gpu-dev list --all"))
    if not session.output.asks:
        if len(live) == 1:
            return live
        raise InvalidRequest(f"which one? {references.listed(live)}", ("all of them", "gpu-dev cancel --all"))
    return _pick_several(session, live) if len(live) > 1 else live


def _can_end(view: ReservationView) -> bool:
    """Whether it has not ended, and is not on its way there."""
    return view.state in screens.LIVE and (view.state != "ending" or view.requeue)


def _pick_several(session: Session, live: Sequence[ReservationView]) -> Sequence[ReservationView]:
    picked: list[ReservationView] = questions.select_several("Which ones?", references.lines_of(session, live))
    if not picked:
        raise KeyboardInterrupt
    return picked


def _confirm(views: Sequence[ReservationView]) -> None:
    """Ask once more; enter alone ends one of the user's own, but not several, and nothing of somebody else.

    Raises:
        KeyboardInterrupt: the user does not want it.
    """
    default = len(views) == 1 and views[0].mine
    if not questions.confirm(f"End {references.listed(views)}?", default=default):
        raise KeyboardInterrupt


def _cancel_one(session: Session, view: ReservationView) -> ReservationView:
    if view.state not in screens.LIVE:
        return view
    answer = session.client().send(Cancel(reservation=view.id))
    if not isinstance(answer, ReservationView):
        raise InvalidRequest("the cloud's answer is no reservation")
    return answer


def _told(view: ReservationView, now: datetime) -> str:
    if view.state == "ending":
        disk = f" Its disk {view.disk} is made safe first: gpu-dev show {view.name}" if view.disk else ""
        return f"{screens.title(view)} is ending.{disk}"
    return screens.ended_sentence(view, now)


@click.command()
@click.argument("reference", metavar="[ID]", required=False)
@json_option
@pass_session
def wait(session: Session, reference: str | None, as_json: bool) -> None:
    """Wait until a reservation is ready; exit 1 if it ends instead."""
    view = references.find(session, reference, ("queued", "preparing", "active"))
    try:
        view = wait_for(session, view, ("active", *screens.ENDED))
    except KeyboardInterrupt:
        session.output.note(screens.left_text(view))
        sys.exit(130)
    references.live_views(session)
    if as_json:
        session.output.json(view)
    elif view.state == "active":
        session.output.line(screens.headline(view, session.now(), session.output))
        session.output.line(f"Next: gpu-dev connect {view.name}")
    else:
        session.output.line(screens.ended_sentence(view, session.now()))
    if view.state != "active":
        sys.exit(1)
