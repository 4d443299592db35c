"""Every error that ODC raises on purpose.

    OdcError
    ├── RequestError        the caller can fix it
    │   ├── InvalidRequest, NotFound, NotAllowed, LimitExceeded
    │   │   └── RateLimited       the same message may be sent again after a pause
    ├── Conflict            lost a compare-and-set: read again, retry
    ├── ProviderError       a backend failed; the vendor's error is __cause__
    │   ├── ProviderUnavailable   passing: a later pass retries, with growing delay
    │   │   └── PlaceTaken        fails here, may work elsewhere: placed again at once
    │   └── ProviderRefused       lasting: the reservation fails with the reason
    │       └── BoxGone               the box is gone, or never runs again; another one can be made
    └── InvariantError      a bug: never caught

A message says what is wrong and which id; `hints` say what to do next, with the command to type.
Exit codes and HTTP statuses are in one table, at the end of this file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple


class Hint(NamedTuple):
    """One way on: a few words, and the command to paste."""

    label: str
    command: str


class OdcError(Exception):
    """The base class: a message for people, and hints about what to do next."""

    def __init__(self, text: str, *hints: Hint | tuple[str, str], when: datetime | None = None) -> None:
        """Make the error.

        Args:
            text: what is wrong, and which id.
            hints: what can be done next.
            when: a time at the end of the text, which is shown in the reader's time zone.
        """
        self.text = text
        self.when = when
        self.message = f"{text} {when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if when else text
        """The whole sentence, with the time in UTC."""
        super().__init__(self.message)
        self.hints = tuple(Hint(*hint) for hint in hints)


class RequestError(OdcError):
    """The caller can fix it. Nothing was changed."""


class InvalidRequest(RequestError):
    """A value is out of its range, or the request makes no sense."""


class NotFound(RequestError):
    """The named object does not exist, or the caller may not see it."""


class NotAllowed(RequestError):
    """The caller may not do this."""


class LimitExceeded(RequestError):
    """A limit is reached; the message gives the limit, the usage, and what would free some."""


class RateLimited(LimitExceeded):
    """The caller asks too often. `retry_after_s` says in how many seconds the same message may be sent again."""

    def __init__(
        self, text: str, *hints: Hint | tuple[str, str], when: datetime | None = None, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(text, *hints, when=when)
        self.retry_after_s = retry_after_s


class Conflict(OdcError):
    """Another writer was first. Nothing was written; read again and retry."""


class ProviderError(OdcError):
    """A backend failed. The vendor's error is the `__cause__`."""


class ProviderUnavailable(ProviderError):
    """A passing fault: the operation may or may not have happened; a later pass retries it."""


class PlaceTaken(ProviderUnavailable):
    """Something else uses what the box needs (a port, a node's space). A box that is made again may get another one,
    in the same place or elsewhere.
    """


class ProviderRefused(ProviderError):
    """A lasting fault: asking again gives the same answer."""


class BoxGone(ProviderRefused):
    """There is no box of this name and uid any more, or it never runs again, as after an eviction. Another one can be
    made.
    """


class InvariantError(OdcError):
    """A rule of ODC itself is broken: a bug. Never caught."""


# One table: name on the wire, exit code of a command, HTTP status. The most special class wins.
OUTCOMES: dict[type[OdcError], tuple[int, int]] = {
    InvalidRequest: (2, 400),
    NotFound: (2, 404),
    NotAllowed: (2, 403),
    LimitExceeded: (2, 429),
    RequestError: (2, 400),
    Conflict: (1, 409),
    ProviderUnavailable: (1, 503),
    ProviderRefused: (1, 502),
    ProviderError: (1, 502),
    InvariantError: (70, 500),
    OdcError: (1, 500),
}


def exit_code(error: OdcError) -> int:
    """The exit code of a command that ends with this error: never 0."""
    return next(OUTCOMES[kind][0] for kind in type(error).__mro__ if kind in OUTCOMES)


def http_status(error: OdcError) -> int:
    """The HTTP status of an answer that carries this error."""
    return next(OUTCOMES[kind][1] for kind in type(error).__mro__ if kind in OUTCOMES)


def kind_of_status(status: int) -> type[OdcError]:
    """The class of an error of which only the HTTP status is known. A bug is not assumed."""
    known = {own: kind for kind, (_, own) in reversed(OUTCOMES.items()) if kind is not InvariantError}
    return known.get(status, RequestError if status < http_status(OdcError("")) else OdcError)
