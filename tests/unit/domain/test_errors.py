"""Errors as they come over the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from odc.api.views import error_view
from odc.domain import errors
from odc.domain.errors import OdcError

WHEN = datetime(2026, 3, 4, 22, 4, tzinfo=timezone(timedelta(hours=2)))


def kinds() -> list[type[OdcError]]:
    """Every class of error that a client makes from its name."""
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OdcError)]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("kind", kinds())
def test_every_error_carries_its_hints_and_its_time(kind: type[OdcError]) -> None:
    error = kind("proj is in use until", ("end it", "gpu-dev cancel proj"), when=WHEN)
    assert (error.text, error.when) == ("proj is in use until", WHEN)
    assert error.message == str(error) == "proj is in use until 2026-03-04T20:04:00Z"
    assert error.hints == (errors.Hint("end it", "gpu-dev cancel proj"),)


def test_the_message_of_an_error_keeps_the_time_and_the_text_does_not() -> None:
    view = error_view(errors.InvalidRequest("in use until", when=WHEN))
    assert (view.message, view.text) == ("in use until 2026-03-04T20:04:00Z", "in use until")
    assert view.when is not None
    assert view.when.astimezone(UTC).hour == 20
    assert error_view(errors.InvalidRequest("wrong")).text == ""
