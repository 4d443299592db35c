"""`odc user`: lists users and uids that changed their login, and removes or transfers the records of users who
leave.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable

import click

from odc.api.client import Client
from odc.api.hints import message_of
from odc.api.messages.requests import Done
from odc.api.messages.users import UserList, UserView
from odc.domain.commands import odc
from odc.domain.errors import Hint, InvalidRequest, NotFound
from odc.domain.names import cut, near_match
from odc.domain.user import reference_of
from odc.operator.settings import Settings

Say = Callable[[str], None]
_HEAD = ("UID", "NAME", "LOGIN NOW", "DISKS", "RESERVATIONS", "KEYS", "GITHUB")


def read_users(settings: Settings, timeout_s: float | None = None) -> UserList:
    """Return every user with a record; the time limit is that of `Client`.

    Raises:
        OdcError: the ODC daemon does not answer, or the caller is not an operator.
    """
    client = Client(settings.socket, timeout_s=timeout_s)
    try:
        return client.users()
    finally:
        client.close()


def table(users: Iterable[UserView]) -> list[str]:
    """Return the users as lines, followed by the decisions that an operator has to make."""
    shown = tuple(users)
    rows = [_HEAD, *(_row(user) for user in shown)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, *(line for user in shown for line in _advice_lines(user))]


def _row(user: UserView) -> tuple[str, ...]:
    uid = "-" if user.uid is None else str(user.uid)
    names = (", ".join(user.disks) or "-", ", ".join(user.reservations) or "-")
    return (uid, user.name, _login(user), *names, str(user.keys), user.github_user or "-")


def _login(user: UserView) -> str:
    if user.uid is None:
        return "(forgotten)"
    if user.login is None:
        return "(no login)"
    return f"{user.login} (held)" if user.held else user.login


def advice(user: UserView) -> tuple[str, tuple[Hint, ...]]:
    """Return the decision that an operator has to make about this user, with the commands; empty if there is none."""
    if user.held and user.login:
        text = f"{user.name}: uid {user.uid} is {user.login} now, whose requests are refused"
        same = Hint("the same person", odc(f"user move {user.uid} {shlex.quote(user.login)}"))
        return text, (same, Hint("another person", odc(f"user forget {user.uid}")))
    if user.uid is None and user.disks:
        return f"{user.name}: forgotten; disks are kept", (Hint("hand over", odc(f"user move {user.principal} LOGIN")),)
    if user.uid is not None and user.login is None:
        left = Hint("has left", odc(f"user forget {user.uid}"))
        return f"{user.name}: uid {user.uid} has no login now", (
            left,
            Hint("is another", odc(f"user move {user.uid} LOGIN")),
        )
    return "", ()


def _advice_lines(user: UserView) -> list[str]:
    text, hints = advice(user)
    return [text, *(f"  {hint.label + ':':<17} " + hint.command for hint in hints)] if text else []


def forget(settings: Settings, user: str, yes: bool, say: Say) -> None:
    """Delete the user's record and keys, end their reservations, and keep their disks for a later owner.

    Raises:
        OdcError: there is no such user, or the operator has not confirmed; nothing was changed.
    """
    _find(settings, user)
    _ask(f"Forget {user}: remove the keys, end the reservations, keep the disks?", odc(f"user forget {user}"), yes)
    say(_ask_daemon(settings, lambda client: client.forget_user(user)))


def move(settings: Settings, user: str, to: str, yes: bool, say: Say) -> None:
    """Transfer everything of a user to a login.

    Raises:
        OdcError: there is no such user or login, or the operator has not confirmed; nothing was changed.
    """
    _find(settings, user)
    _ask(f"Give the disks and reservations of {user} to {to}?", odc(f"user move {user} {to}"), yes)
    say(_ask_daemon(settings, lambda client: client.move_user(user, to)))


def _find(settings: Settings, user: str) -> None:
    """Refuse an unknown user before asking for confirmation; the server checks again."""
    known = read_users(settings).users
    if not any(user in (one.name, one.principal, reference_of(one.principal)) for one in known):
        near = near_match(cut(user), [one.name for one in known])
        meant = f"; did you mean {near}?" if near else ""
        raise NotFound(f"no user {cut(user)!r} is recorded{meant}", ("all of them", odc("user list")))


def _ask(question: str, command: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "this must be confirmed, and there is no terminal to ask on", ("without asking", command + " --yes")
        )
    click.confirm(question, abort=True)


def _ask_daemon(settings: Settings, ask: Callable[[Client], Done]) -> str:
    client = Client(settings.socket)
    try:
        return message_of(ask(client))
    finally:
        client.close()
