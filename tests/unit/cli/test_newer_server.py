"""What a server of a newer version says, which this client does not know."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.cli.screen import NOW, a_box, a_view, an_output

from odc.api.client import error_of
from odc.api.messages.reservations import ReservationView
from odc.cli import screens, show_screen
from odc.cli.cancel import is_cancellable
from odc.domain.errors import (
    Conflict,
    LimitExceeded,
    NotFound,
    OdcError,
    ProviderUnavailable,
    RequestError,
    exit_code,
)


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


def test_a_reservation_in_an_unknown_state_is_not_taken_for_an_ended_one() -> None:
    view = as_received(a_view(), state="hibernated")
    lines = show_screen.show_lines(view, NOW, an_output())
    assert any("node-1" in line for line in lines)
    assert not any("--like" in line for line in lines)
    assert is_cancellable(view)
    assert screens.state_colour(view, NOW) == "yellow"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, NotFound, 2),
        (429, LimitExceeded, 2),
        (422, RequestError, 2),
        (409, Conflict, 1),
        (503, ProviderUnavailable, 1),
    ],
)
def test_an_error_of_an_unknown_class_is_told_apart_by_its_status(status: int, kind: type[OdcError], code: int) -> None:
    error = error_of(msgspec.json.encode({"error": "Frozen", "message": "it is frozen"}), status)
    assert (type(error), exit_code(error), error.message) == (kind, code, "it is frozen")


def test_a_bug_of_the_server_is_not_a_bug_of_the_client() -> None:
    error = error_of(msgspec.json.encode({"error": "Frozen", "message": "it is frozen"}), 500)
    assert (type(error), exit_code(error)) == (OdcError, 1)


@pytest.mark.parametrize("field", [{"when": "next week"}, {"hints": "none"}, {"hints": [{"label": 1}]}])
def test_an_error_with_a_field_of_another_form_keeps_its_message(field: dict[str, object]) -> None:
    error = error_of(msgspec.json.encode({"error": "NotFound", "message": "no disk proj"} | field), 404)
    assert (type(error), error.message, error.hints) == (NotFound, "no disk proj", ())


def test_an_answer_that_is_not_an_error_names_its_status() -> None:
    assert error_of(b"<html>", 502).message == "the ODC daemon answers with status 502"
