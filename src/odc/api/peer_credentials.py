"""HTTP on a unix socket whose peer is identified by the kernel (SO_PEERCRED); callers have no other identity.

One user cannot block the server for others: connections are limited by uid, and closed if the request does not arrive
or the answer is not read in time.
"""

from __future__ import annotations

import asyncio
import logging
import pwd
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from odc.api import views
from odc.api.request_body import ARRIVAL_S
from odc.domain.access import Principal
from odc.domain.errors import InvalidRequest, LimitExceeded, NotAllowed, OdcError, http_status
from odc.domain.user import unix_principal, unnamed

log = logging.getLogger(__name__)
_failures = logging.getLogger(f"{__name__}.failures")
# A refused request is logged by us with its user; the server's own warnings do not name the user.
_failures.setLevel(logging.ERROR)

CONNECTIONS_PER_USER = 256
MAX_REASON = 120
_CREDENTIALS = struct.Struct("3i")
Recognize = Callable[[int], Principal]


def _of_nobody(_uid: int) -> str | None:
    return None


def recognizer(admins: frozenset[str], lender_of: Callable[[int], str | None] = _of_nobody) -> Recognize:
    """Return the function that makes a principal of a uid: root and the named users are operators.

    Args:
        admins: logins of operators.
        lender_of: the login that a subordinate uid belongs to. Such a uid is a process in a container of that user,
            who has 65,536 of them and would have the limits of as many users: it is refused, with `NotAllowed`.
    """

    def recognize(uid: int) -> Principal:
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            lender = lender_of(uid)
            if lender is not None:
                # A directory service whose uids overlap those ranges, and which does not answer, looks the same.
                text = (
                    f"uid {uid} has no login, and is a subordinate uid of {lender}. Ask as {lender}, not in a container"
                )
                raise NotAllowed(text, ("if it is a login's", f"getent passwd {uid}")) from None
            user = unnamed(uid)
        return Principal(id=unix_principal(uid), user=user, admin=uid == 0 or user in admins)

    return recognize


def peer_uid(peer: socket.socket) -> int:
    """Return the uid of the peer process at the time when it connected."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


@dataclass(slots=True)
class ConnectionLimits:
    """State that all connections of one server share.

    Attributes:
        recognize: makes a principal of the peer's uid.
        most: connections of one user at once; further ones are answered with an error and closed.
        open: connections by uid.
    """

    recognize: Recognize
    most: int = CONNECTIONS_PER_USER
    open: Counter[int] = field(default_factory=Counter)


class _Timer:
    """Does something unless it is stopped within the time that a peer has; starting it twice counts once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        self._loop = loop
        self._action = action
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_later(ARRIVAL_S, self._action)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class PeerProtocol(H11Protocol):
    """One connection."""

    limits: ConnectionLimits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _failures
        self.access_log = False
        self._uid = -1
        self._arrival = _Timer(self.loop, self._too_late)
        self._taking = _Timer(self.loop, lambda: self.transport.abort())

    def connection_made(self, transport: Any) -> None:
        """Note who is at the other end, once for the connection."""
        super().connection_made(transport)
        self._uid = peer_uid(transport.get_extra_info("socket"))
        self.limits.open[self._uid] += 1
        user = unnamed(self._uid)
        try:
            principal = self.limits.recognize(self._uid)
            user = principal.user
            self.app_state = {**self.app_state, "principal": principal}
        except NotAllowed as error:
            # `rates.RateLimiter` answers each request: a client that is refused before it has sent reads nothing.
            self.app_state = {**self.app_state, "refused": error}
        if self.limits.open[self._uid] > self.limits.most:
            self._refuse(LimitExceeded(f"{user} has {self.limits.most} connections open already; close some"))
        else:
            self._watch_arrival()

    def connection_lost(self, exc: Exception | None) -> None:
        """Decrement the user's connection count."""
        self.limits.open[self._uid] -= 1
        if self.limits.open[self._uid] <= 0:
            del self.limits.open[self._uid]
        self._arrival.stop()
        self._taking.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take more of the request."""
        super().data_received(data)
        self._watch_arrival()

    def _watch_arrival(self) -> None:
        """While a request's head is not whole, its time runs; its body has a time of its own (`bodies`)."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._arrival.stop()
        else:
            self._arrival.start()

    def _too_late(self) -> None:
        self._refuse(InvalidRequest(f"no request came within {ARRIVAL_S:g} s"))

    def on_response_complete(self) -> None:
        """Serve the next request of the connection, unless the rest of this one's body would have to be read first."""
        if self.conn.their_state is h11.SEND_BODY:
            self._close()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The peer does not take its answer: its time runs, since the answer takes memory meanwhile."""
        super().pause_writing()
        self._taking.start()

    def resume_writing(self) -> None:
        """The peer has taken most of it."""
        super().resume_writing()
        self._taking.stop()

    def timeout_keep_alive_handler(self) -> None:
        """Close idle connections, and drop answers that were not read."""
        super().timeout_keep_alive_handler()
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer requests that the parser refuses in JSON; called while the parser's error is handled."""
        reason = str(sys.exc_info()[1] or "").rstrip(".")[:MAX_REASON]
        self._refuse(InvalidRequest("this is not a valid HTTP request" + (f": {reason}" if reason else "")))

    def _unsupported_upgrade_warning(self) -> None:
        """Do nothing: a server may ignore an upgrade (RFC 9110, 7.8) and answer the request as usual."""

    def _refuse(self, error: OdcError) -> None:
        """Answer without the application, and close. An application that is serving this connection is told that it has
        ended.
        """
        refusal = {"uid": self._uid, "error": type(error).__name__, "reason": error.message}
        log.info("refused", extra=refusal)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = msgspec.json.encode(views.error_view(error))
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            head = h11.Response(status_code=http_status(error), headers=headers)
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._close()

    def _close(self) -> None:
        """Close when the peer has read the written data, or after a timeout."""
        self._arrival.stop()
        self.transport.close()
        self._taking.start()


def peer_protocol(limits: ConnectionLimits) -> type[H11Protocol]:
    """Return the protocol class of a server with these limits."""

    class Served(PeerProtocol):
        """One connection to it."""

    Served.limits = limits
    return Served
