"""What a server of a newer version says, which this client does not know."""

from __future__ import annotations

import msgspec
from tests.unit.cli.screen import NOW, a_box, a_view, an_output

from odc.api.messages.reservations import ReservationView
from odc.cli import screens, show_screen


def as_received(view: ReservationView, **changes: object) -> ReservationView:
    """The view as it comes over the wire, with other words in it."""
    return msgspec.convert(msgspec.to_builtins(view) | changes, ReservationView)


def test_an_unknown_state_is_shown_and_given_to_scripts_as_it_came() -> None:
    view = as_received(a_view(), state="hibernated")
    assert "hibernated" in screens.list_lines([view], NOW, an_output())[1]
    assert "hibernated" in show_screen.show_lines(view, NOW, an_output())[0]
    assert msgspec.to_builtins(view)["state"] == "hibernated"


def test_an_unknown_state_of_a_box_is_shown_as_it_came() -> None:
    box = msgspec.to_builtins(a_box()) | {"state": "paused"}
    lines = show_screen.show_lines(as_received(a_view(), boxes=[box]), NOW, an_output())
    assert any(line.endswith(", paused") for line in lines)
