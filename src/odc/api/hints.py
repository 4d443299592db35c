"""Commands over the wire: as text for people, and in parts for clients that fill in options."""

from __future__ import annotations

from odc.api.messages.requests import Done, HintView, PartView, Sentence
from odc.domain.commands import Command, Part, parts_of
from odc.domain.errors import Hint


def sentence(text: str) -> Sentence:
    """Return a text with commands in it as it is sent."""
    return tuple(PartView(text=part.text, program=part.program) for part in parts_of(text))


def text_of(text: str, parts: Sentence) -> str:
    """Return a text that was sent, with its commands; a server of 0.1.0 sends no parts."""
    return Command(Part(part.text, part.program) for part in parts) if parts else text


def hint_view(hint: Hint) -> HintView:
    """Return the hint as it is sent."""
    return HintView(label=hint.label, command=f"{hint.command}", parts=sentence(hint.command))


def hint_of(view: HintView) -> Hint:
    """Return the hint that was sent."""
    return Hint(view.label, text_of(view.command, view.parts))


def done_view(message: str) -> Done:
    """Return the answer to a request that is not about a reservation."""
    return Done(message=f"{message}", parts=sentence(message))


def message_of(done: Done) -> str:
    """Return the message of such an answer, with its commands."""
    return text_of(done.message, done.parts)
