"""One envelope for every request, and the answers that are not a view of something."""

from __future__ import annotations

from datetime import datetime

import msgspec

from odc.domain.commands import Program
from odc.domain.requests import Request

WAIT_LIMIT_S = 30.0


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with the idempotency id that the client made: 32 hexadecimal digits. A repeat acts once."""

    id: str
    request: Request


class PartView(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a command; its text follows the program, if it has one.

    Attributes:
        text: shell text.
        program: which of the two programs is called here, without its options; None for text alone.
    """

    text: str
    program: Program | None = None


Sentence = tuple[PartView, ...]
"""A sentence with commands in it, in parts, for clients that fill in options such as `--endpoint`."""


class HintView(msgspec.Struct, frozen=True, kw_only=True):
    """A command to type next, with a label.

    Attributes:
        label: what it is for.
        command: the command to paste.
        parts: the same in parts, for clients that fill in options such as `--endpoint`.
    """

    label: str
    command: str
    parts: Sentence = ()


class ErrorView(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error.

    Attributes:
        error: the error's class, such as `NotFound`.
        message: what is wrong, and of which id.
        text: the message without the time at its end; empty if there is no such time.
        when: that time; None if there is none.
        hint: the first command to type next; empty if there is none.
        hints: all commands to type next.
    """

    error: str
    message: str
    text: str = ""
    when: datetime | None = None
    hint: str = ""
    hints: tuple[HintView, ...] = ()


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request that is not about a reservation.

    Attributes:
        message: a sentence about what was done.
        parts: the same in parts.
    """

    message: str
    parts: Sentence = ()
