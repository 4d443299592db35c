"""Hints over the wire: the command as text for people, and in parts for clients that fill in options."""

from __future__ import annotations

from odc.api.messages.requests import HintView, PartView
from odc.domain.commands import Command, Part, parts_of
from odc.domain.errors import Hint


def hint_view(hint: Hint) -> HintView:
    """Return the hint as it is sent."""
    parts = tuple(PartView(text=part.text, program=part.program) for part in parts_of(hint.command))
    return HintView(label=hint.label, command=f"{hint.command}", parts=parts)


def hint_of(view: HintView) -> Hint:
    """Return the hint that was sent; a server of 0.1.0 sends the text only."""
    parts = tuple(Part(part.text, part.program) for part in view.parts)
    return Hint(view.label, Command(parts) if parts else view.command)
