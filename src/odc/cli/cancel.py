"""Ending and waiting: cancel, wait."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime

import click

from odc.api.messages.reservations import ReservationView
from odc.cli import local_state, prompts, reservation_lookup, screens
from odc.cli.context import Session
from odc.cli.follow import wait_for
from odc.cli.options import completed, json_option, pass_session, yes_option
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, OdcError, ProviderUnavailable, RequestError
from odc.domain.status import ENDED, Status

CANCELLED_NOTE = "Nothing was cancelled."
MAX_HINTS = 5
"""Return the commands to paste when a script did not name a reservation."""


@click.command()
@click.argument("wanted", metavar="[ID]...", nargs=-1, shell_complete=completed)
@click.option("--all", "everything", is_flag=True, help="Cancel all of your reservations.")
@yes_option
@json_option
@pass_session
def cancel(session: Session, wanted: tuple[str, ...], everything: bool, yes: bool, as_json: bool) -> None:
    """End reservations now; their disks are kept. Without an ID, asks which.

    Without a terminal, --all and another user's reservation need --yes.
    """
    can_prompt = session.output.can_prompt and not as_json
    try:
        views = _chosen(session, wanted, everything, can_prompt, yes)
        ending = [view for view in views if is_cancellable(view)]
        if ending and not yes:
            _confirm(ending, wanted, everything, can_prompt)
    except KeyboardInterrupt:
        session.output.note(CANCELLED_NOTE)
        sys.exit(130)
    if not views and not as_json:
        session.output.line("You have no live reservation.")
        return
    ended, failed = _cancel_each(session, views)
    if as_json and (everything or len(wanted) > 1):
        session.output.json(ended)
    elif as_json:
        for view in ended:
            session.output.json(view)
    else:
        session.output.lines(_result_line(view, session.now()) for view in ended)
    if failed:
        raise _combined_error(failed, of=len(views))
    local_state.sync(session)


def _chosen(
    session: Session, wanted: Sequence[str], everything: bool, can_prompt: bool, yes: bool
) -> Sequence[ReservationView]:
    """Return the reservations to cancel; every name is resolved before the first is cancelled."""
    if wanted and everything:
        raise InvalidRequest("--all and an ID together; give one of them")
    if wanted:
        return _named(session, wanted)
    live = [view for view in local_state.sync(session) if is_cancellable(view)]
    if everything:
        return live
    if not live:
        raise InvalidRequest("you have no live reservation", ("the ended ones", gpu_dev("list --all")))
    if can_prompt:
        return _pick_several(session, live) if len(live) > 1 else live
    if len(live) == 1 and yes:
        return live
    raise InvalidRequest(f"which one? {reservation_lookup.listed(live)}", *_hints_for(live))


def _hints_for(live: Sequence[ReservationView]) -> list[tuple[str, str]]:
    """Return one command per reservation, and the one that cancels all of them last."""
    hints: list[tuple[str, str]] = [
        ("this one" if number == 0 else "or", gpu_dev(f"cancel {view.name}")) for number, view in enumerate(live)
    ]
    hints = hints[:MAX_HINTS]
    if len(live) > 1:
        hints.append(("all of them", gpu_dev("cancel --all --yes")))
    return hints


def _named(session: Session, wanted: Sequence[str]) -> list[ReservationView]:
    """Return the reservations of these names, each once.

    Raises:
        RequestError: one of them does not exist or is ambiguous; nothing was cancelled.
    """
    if len(wanted) == 1:
        return [reservation_lookup.find(session, wanted[0], local_state.sync(session))]
    local_state.sync(session)
    found: dict[str, ReservationView] = {}
    wrong: list[RequestError] = []
    for reference in wanted:
        try:
            view = session.client().reservation(reference)
        except RequestError as error:
            wrong.append(error)
        else:
            found[view.id] = view
    if wrong:
        told = "; ".join(error.message for error in wrong)
        raise type(wrong[0])(f"{told}; nothing was cancelled", *wrong[0].hints)
    return list(found.values())


def is_cancellable(view: ReservationView) -> bool:
    """Whether it has not ended, and is not on its way there."""
    return view.state not in ENDED and (view.state is not Status.ENDING or view.requeue)


def _pick_several(session: Session, live: Sequence[ReservationView]) -> Sequence[ReservationView]:
    picked: list[ReservationView] = prompts.select_several("Which ones?", reservation_lookup.lines_of(session, live))
    if not picked:
        raise KeyboardInterrupt
    return picked


def _confirm(views: Sequence[ReservationView], wanted: Sequence[str], everything: bool, can_prompt: bool) -> None:
    """Ask for confirmation; Enter alone cancels nothing.

    Without a terminal only the user's own reservations are cancelled, and only if they were named.

    Raises:
        KeyboardInterrupt: the user declined.
        InvalidRequest: confirmation is required and there is no terminal; nothing was cancelled.
    """
    if can_prompt:
        if not prompts.confirm(f"End {reservation_lookup.listed(views)}?", default=False):
            raise KeyboardInterrupt
        return
    others = [view for view in views if not view.mine]
    if everything:
        what = reservation_lookup.listed(views)
        what = f"all {len(views)} of yours: {what}" if len(views) > 1 else what
        raise InvalidRequest(f"this ends {what}; confirm it with --yes", ("end them", gpu_dev("cancel --all --yes")))
    if others:
        command = gpu_dev(shlex.join(["cancel", *wanted, "--yes"]))
        told = f"{reservation_lookup.listed(others)} is not yours; confirm it with --yes"
        raise InvalidRequest(told, ("end it" if len(views) == 1 else "end them", command))


def _cancel_each(
    session: Session, views: Sequence[ReservationView]
) -> tuple[list[ReservationView], list[tuple[ReservationView, OdcError]]]:
    """Cancel one after another; return the views of the cancelled ones, and the errors of the others."""
    ended: list[ReservationView] = []
    failed: list[tuple[ReservationView, OdcError]] = []
    for number, view in enumerate(views):
        try:
            ended.append(_cancel_one(session, view))
            session.record_done(f"cancelled {reservation_lookup.listed(ended)}", ("see them", gpu_dev("list --all")))
        except ProviderUnavailable as error:
            # The daemon does not answer: every further request would wait for the same timeout.
            return ended, [*failed, *((left, error) for left in views[number:])]
        except OdcError as error:
            failed.append((view, error))
    return ended, failed


def _combined_error(failed: Sequence[tuple[ReservationView, OdcError]], of: int) -> OdcError:
    """Return an error that lists the failed reservations with reasons; for a single one, its own error."""
    first = failed[0][1]
    if of == 1:
        return first
    reasons = "; ".join(f"{screens.title(view)}: {error.message}" for view, error in failed)
    again = gpu_dev(shlex.join(["cancel", *(view.id for view, _ in failed)]))
    return type(first)(f"{len(failed)} of {of} were not cancelled: {reasons}", *first.hints, ("try again", again))


def _cancel_one(session: Session, view: ReservationView) -> ReservationView:
    if view.state in ENDED:
        return view
    return session.client().cancel(view.id)


def _result_line(view: ReservationView, now: datetime) -> str:
    if view.state is Status.ENDING:
        disk = f" Its disk {view.disk} is made safe first: " + gpu_dev(f"show {view.name}") if view.disk else ""
        return f"{screens.title(view)} is ending." + disk
    return screens.ended_sentence(view, now)


@click.command()
@click.argument("reference", metavar="[ID]", required=False, shell_complete=completed)
@json_option
@pass_session
def wait(session: Session, reference: str | None, as_json: bool) -> None:
    """Wait until a reservation is ready; exit 1 if it ends instead."""
    view = reservation_lookup.find(
        session, reference, local_state.sync(session), (Status.QUEUED, Status.PREPARING, Status.ACTIVE)
    )
    try:
        view = wait_for(session, view, (Status.ACTIVE, *ENDED))
    except KeyboardInterrupt:
        session.output.note(screens.left_text(view))
        sys.exit(130)
    local_state.sync(session)
    if as_json:
        session.output.json(view)
    elif view.state is Status.ACTIVE:
        session.output.line(screens.headline(view, session.now(), session.output))
        session.output.line("Next: " + gpu_dev(f"connect {view.name}"))
    else:
        session.output.line(screens.ended_sentence(view, session.now()))
    if view.state is not Status.ACTIVE:
        sys.exit(1)
