"""Finds the reservation of a command that was typed without an ID: the only live one, or one that the user picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from odc.api.messages.reservations import ReservationView
from odc.cli import prompts, screens
from odc.cli.context import Session
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest
from odc.domain.status import Status


def find(
    session: Session,
    reference: str | None,
    live: Sequence[ReservationView],
    states: Sequence[Status] = (),
) -> ReservationView:
    """Return the reservation that a command is about. Writes nothing.

    Args:
        session: the command's.
        reference: an id, its beginning, or a name; None for the only one that is live.
        live: all of the user's live reservations.
        states: which live ones count when none is named; empty: all of them.

    Raises:
        InvalidRequest: none is named, and there is none or several; the message lists them.
        NotFound: there is no such reservation.
    """
    if reference is not None:
        return session.client().reservation(reference)
    views = tuple(view for view in live if not states or view.state in states)
    if len(views) == 1:
        return session.client().reservation(views[0].id)
    if not views:
        raise InvalidRequest("you have no live reservation", ("make one", gpu_dev("reserve")))
    if session.output.can_prompt:
        return pick(session, views, "Which one?")
    raise InvalidRequest(f"which one? {listed(views)}", ("all of them", gpu_dev("list")))


def listed(views: Sequence[ReservationView]) -> str:
    """Return `train (b1946ac9), big (5e0d22b7) of user2`: other users' reservations with the owner."""
    return ", ".join(screens.title(view) + ("" if view.mine else f" of {view.owner}") for view in views)


def lines_of(session: Session, views: Sequence[ReservationView]) -> list[tuple[str, ReservationView]]:
    """Return a line for each reservation, to choose from."""
    now = session.now()
    return [
        (f"{screens.title(view)}  {screens.count_of(view)}  {view.state}  {screens.until_cell(view, now)}", view)
        for view in views
    ]


def pick(session: Session, views: Sequence[ReservationView], question: str) -> ReservationView:
    """Let the user choose one and return it. Raises as `chosen` does."""
    view: ReservationView = chosen(session, question, lines_of(session, views))
    return view


def chosen(session: Session, question: str, lines: Sequence[tuple[str, Any]]) -> Any:
    """Return the value of the line that the user chooses.

    Args:
        session: the command's.
        question: what is asked.
        lines: text and value of each.

    Raises:
        KeyboardInterrupt: the user gave up; nothing happened.
    """
    try:
        return prompts.select(question, lines)
    except KeyboardInterrupt:
        session.output.note("Cancelled.")
        raise
