"""Rate limits: a token bucket for each user and kind of message, far above the needs of honest clients.

A dozen terminals with `--watch`, an editor and a few scripts in loops stay below. A user above the rate is answered 429
at once, before anything is read or looked up, with the time to wait (`Retry-After`); our own client waits for it.
Operators have no rate.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from odc.api import views
from odc.domain.access import Principal
from odc.domain.errors import OdcError, RateLimited, http_status


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's size, and how many tokens come back each second."""

    burst: float
    per_s: float


QUESTIONS = Rate(burst=2000, per_s=100)
REQUESTS = Rate(burst=300, per_s=1)
"""Requests that write. A request's record is kept for a day, so this limits how much one user adds to the records."""
FETCHES = Rate(burst=20, per_s=1 / 180)
"""GitHub logins that are set: each asks GitHub, whose API answers 60 questions an hour for the whole machine."""
_MOST_BUCKETS = 10_000


class Rates:
    """The buckets of all users. May be used by several threads at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets.

        Args:
            now: a clock in seconds that never goes back.
        """
        self._now = now
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, Rate], tuple[float, float]] = {}

    def take(self, caller: Principal, rate: Rate) -> None:
        """Count one message.

        Raises:
            RateLimited: the bucket is empty; with the seconds until it has a token.
        """
        if caller.admin:
            return
        with self._lock:
            wait_s = self._wait(caller.id, rate)
        if wait_s:
            shown = max(1, math.ceil(wait_s))
            raise RateLimited(f"{caller.user} asks too often; try again in {shown} s", retry_after_s=wait_s)

    def _wait(self, principal: str, rate: Rate) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now, key = self._now(), (principal, rate)
        tokens, at = self._buckets.get(key, (rate.burst, now))
        tokens = min(rate.burst, tokens + (now - at) * rate.per_s)
        if tokens < 1:
            return (1 - tokens) / rate.per_s
        if len(self._buckets) >= _MOST_BUCKETS:
            self._forget_full(now)
        self._buckets[key] = (tokens - 1, now)
        return 0.0

    def _forget_full(self, now: float) -> None:
        """Drop the buckets that are full again: they are equal to new ones."""
        self._buckets = {
            key: (tokens, at)
            for key, (tokens, at) in self._buckets.items()
            if tokens + (now - at) * key[1].per_s < key[1].burst
        }


class RateLimiter:
    """An ASGI application that counts each HTTP request of a user, and passes on those within the rate.

    A connection of a uid that may not ask at all (`refused` in its state) is answered here, too.
    """

    def __init__(self, app: Any, rates: Rates | None = None) -> None:
        """Prepare.

        Args:
            app: the ASGI application behind it.
            rates: the buckets; new ones if None.
        """
        self._app = app
        self._rates = rates or Rates()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is not None:
            await _refuse(refusal, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Any) -> OdcError | None:
        """Return why this request is refused (the caller is not a user, or is above the rate); None if it is served."""
        state = scope.get("state", {})
        caller, refused = state.get("principal"), state.get("refused")
        if isinstance(refused, OdcError):
            return refused
        if not isinstance(caller, Principal):
            return None
        try:
            self._rates.take(caller, REQUESTS if scope["method"] == "POST" else QUESTIONS)
        except RateLimited as error:
            return error
        return None


def retry_after(error: RateLimited) -> int:
    """Return whole seconds, for the header."""
    return max(1, math.ceil(error.retry_after_s))


async def _refuse(error: OdcError, send: Any) -> None:
    body = msgspec.json.encode(views.error_view(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if isinstance(error, RateLimited):
        headers.append((b"retry-after", str(retry_after(error)).encode()))
    await send({"type": "http.response.start", "status": http_status(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})
