"""The client of the API, a method for each request and each question. Light to import: `gpu-dev` must start quickly.

A request carries an id made here, so that it can be sent again after a lost connection and still act once. Answers
decode leniently: a server may send fields that this client does not know. The type of each request's answer is defined
in `odc.control.request_handlers.REQUESTS`, which is not imported, because the control plane is slow to import. A test
compares the methods here with that table.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from odc.api.connectors import connector_of
from odc.api.hints import hint_of
from odc.api.lost_answers import is_lost, with_doubt
from odc.api.messages.cloud import Availability, Health, StatusView
from odc.api.messages.requests import Done, Envelope, ErrorView
from odc.api.messages.reservations import History, ReservationList, ReservationPage, ReservationView
from odc.api.messages.storage import DiskList, StorageView
from odc.api.messages.users import Me, UserList
from odc.domain import errors
from odc.domain.errors import Hint, OdcError, ProviderUnavailable, kind_of_status
from odc.domain.requests import (
    AcceptClock,
    Cancel,
    EndAll,
    ForgetUser,
    MoveUser,
    PruneSnapshots,
    RecoverDisk,
    Request,
    Reserve,
    SetGithubUser,
    SetOwnKeys,
)

QUERY_LIMIT_S = 15.0
REQUEST_LIMIT_S = 40.0
"""How long an answer may take; for a request, the server may ask GitHub first."""
SLOW_S = 1.0
STUCK_S = 5.0
SEND_TRIES = 3
PAGE_ITEMS = 500
"""Reservations that are read at once; also the most ended ones that are read for a list."""
RESEND_DELAY_S = 0.2
RESEND_LIMIT_S = 20.0
"""How long a request whose answer was lost is sent again."""
TOO_OFTEN = 429
PATIENCE_S = 15.0
"""How long a rate-limited client waits silently before it reports that."""
View = TypeVar("View")


class Client:
    """Asks the API of one endpoint. Not for several threads at once."""

    def __init__(
        self,
        endpoint: str,
        timeout_s: float | None = None,
        endpoint_hints: tuple[Hint, ...] = (),
        offline_hints: Callable[[], tuple[Hint, ...]] = tuple,
        on_slow: Callable[[tuple[Hint, ...]], None] | None = None,
    ) -> None:
        """Prepare a client; it connects with the first request.

        Args:
            endpoint: the daemon's address.
            timeout_s: how long an answer may take; None for `QUERY_LIMIT_S` or `REQUEST_LIMIT_S`. The time that a query
                asks the server to wait is added.
            endpoint_hints: hints about the endpoint, for errors when nothing answers there.
            offline_hints: returns what can be done while nothing answers; called only then.
            on_slow: called, by another thread, when an answer that nobody expects to wait for takes over a second, and
                again after five, with hints on how to make a daemon answer that does not.

        Raises:
            InvalidRequest: the endpoint is malformed, or of a kind that this version cannot connect to.
        """
        self._endpoint_hints = endpoint_hints
        self._offline_hints = offline_hints
        self._on_slow = on_slow
        self._connector = connector_of(endpoint, *endpoint_hints)
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self.asked_at = 0.0
        """When the last query was sent, in seconds since 1970: later changes are not in its answer."""

    def reserve(self, request: Reserve) -> ReservationView:
        """Queue a reservation; the answer is its record, before any pass has seen it."""
        return self._request(request, ReservationView)

    def cancel(self, reservation: str) -> ReservationView:
        """End a reservation; one that has ended already is returned unchanged."""
        return self._request(Cancel(reservation=reservation), ReservationView)

    def set_github_user(self, login: str) -> Me:
        """Take the caller's keys from this GitHub login; with an empty one, forget it and its keys."""
        return self._request(SetGithubUser(login=login), Me)

    def set_own_keys(self, keys: tuple[str, ...]) -> Me:
        """Replace the caller's own list of public keys."""
        return self._request(SetOwnKeys(keys=keys), Me)

    def accept_clock(self) -> Done:
        """For operators: accept the wall clock; reservations end by it again."""
        return self._request(AcceptClock(), Done)

    def end_all(self) -> Done:
        """For operators: end every live reservation of every user."""
        return self._request(EndAll(), Done)

    def forget_user(self, user: str) -> Done:
        """For operators: delete a user's record and keys, end their reservations, keep their disks."""
        return self._request(ForgetUser(user=user), Done)

    def move_user(self, user: str, to: str) -> Done:
        """For operators: give everything of a recorded user to the login `to`."""
        return self._request(MoveUser(user=user, to=to), Done)

    def prune_snapshots(self, request: PruneSnapshots) -> Done:
        """For operators: delete older snapshots."""
        return self._request(request, Done)

    def recover_disk(self, request: RecoverDisk) -> Done:
        """For operators: make a record for a disk that has files but no record."""
        return self._request(request, Done)

    def _request(self, request: Request, answer: type[View]) -> View:
        """Send a request, again after a lost connection under the same id, so that it acts once.

        Raises:
            RequestError: the server refused; nothing was changed.
            ProviderUnavailable: the server does not answer. If it may have acted, the message says so, and a hint has
                the command that shows it.
        """
        body = msgspec.json.encode(Envelope(id=uuid.uuid4().hex, request=request))
        began, tries, lost = time.monotonic(), 0, False
        while True:
            try:
                return self._ask("POST", "/v1/requests", answer, body)
            except ProviderUnavailable as error:
                tries += 1
                lost = lost or is_lost(error.__cause__)
                # A daemon that has ended after it received the request is often back in seconds.
                if time.monotonic() - began > RESEND_LIMIT_S if lost else tries >= SEND_TRIES:
                    raise (with_doubt(error, request) if lost else error) from error.__cause__
            if lost and self._on_slow is not None:
                self._on_slow(())
            time.sleep(RESEND_DELAY_S)

    def reservations(self, user: str = "me", ended: bool = False, status: str = "") -> ReservationList:
        """Reservations by place in line: every live one that matches, and those of the newest `PAGE_ITEMS` ended ones.

        Reads page after page.
        """
        found: dict[str, ReservationView] = {}
        token, over = "", 0
        while True:
            arguments = {"user": user, "all": str(ended).lower(), "status": status, "limit": PAGE_ITEMS, "page": token}
            page = self._ask("GET", f"/v1/reservations?{urlencode(arguments)}", ReservationPage)
            over += page.ended_read
            # One that ended between two pages is in both; the later page counts.
            found |= {view.id: view for view in page.reservations}
            token = page.next
            if not token or over >= PAGE_ITEMS:
                break
        # Pages begin with the newest.
        oldest_first = tuple(found.values())[::-1]
        in_line = sorted(oldest_first, key=lambda view: view.created_at)
        return ReservationList(now=page.now, reservations=tuple(in_line))

    def reservation(self, reference: str, wait_s: float = 0, version: int = -1) -> ReservationView:
        """One reservation; with a wait, as soon as its version is above the given one."""
        query = f"?{urlencode({'wait': wait_s, 'version': version})}" if wait_s else ""
        path = f"/v1/reservations/{quote(reference or ' ', safe='')}{query}"
        return self._ask("GET", path, ReservationView, expected_s=wait_s)

    def history(self, reference: str) -> History:
        """Return the events of a reservation."""
        return self._ask("GET", f"/v1/reservations/{quote(reference or ' ', safe='')}/history", History)

    def avail(self) -> Availability:
        """Return availability."""
        return self._ask("GET", "/v1/avail", Availability)

    def status(self) -> StatusView:
        """Return the status of the whole cloud."""
        return self._ask("GET", "/v1/status", StatusView)

    def disks(self) -> DiskList:
        """The caller's disks."""
        return self._ask("GET", "/v1/disks", DiskList)

    def me(self) -> Me:
        """Return the caller, as the server identifies them."""
        return self._ask("GET", "/v1/me", Me)

    def storage(self, keep: int = 1, owner: str = "", disk: str = "") -> StorageView:
        """The disk storage, for operators, and the snapshots that such a prune would delete."""
        query = urlencode({"keep": keep, "owner": owner, "disk": disk})
        return self._ask("GET", f"/v1/storage?{query}", StorageView)

    def users(self) -> UserList:
        """Every user with a record, for operators."""
        return self._ask("GET", "/v1/users", UserList)

    def health(self) -> Health:
        """Return whether the daemon accepts requests."""
        return self._ask("GET", "/v1/health", Health)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, kind: type[View], body: bytes | None = None, expected_s: float = 0) -> View:
        self.asked_at = time.time()
        limit_s = self._timeout_s or (QUERY_LIMIT_S if body is None else REQUEST_LIMIT_S)
        try:
            with self._notifying_when_slow(expected_s):
                status, raw = self._paced(method, path, body, limit_s + expected_s)
        except PermissionError as error:
            raise ProviderUnavailable(
                f"you may not connect to {self._connector.address}", *self._endpoint_hints, *self._offline_hints()
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            hints = (*self._connector.away_hints(error), *self._endpoint_hints, *self._offline_hints())
            raise ProviderUnavailable(self._connector.why_away(error), *hints) from error
        if status != 200:
            raise error_of(raw, status)
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise ProviderUnavailable(f"unexpected response from the ODC daemon: {error}") from error

    @contextlib.contextmanager
    def _notifying_when_slow(self, expected_s: float) -> Iterator[None]:
        if self._on_slow is None:
            yield
            return
        answered = threading.Event()
        threading.Thread(target=self._notify, args=(self._on_slow, answered, expected_s), daemon=True).start()
        try:
            yield
        finally:
            answered.set()

    def _notify(
        self, on_slow: Callable[[tuple[Hint, ...]], None], answered: threading.Event, expected_s: float
    ) -> None:
        if answered.wait(expected_s + SLOW_S):
            return
        on_slow(())
        if not answered.wait(STUCK_S - SLOW_S):
            on_slow(self._connector.away_hints(TimeoutError()))

    def _paced(self, method: str, path: str, body: bytes | None, limit_s: float) -> tuple[int, bytes]:
        """Return the answer; a request that the server asks to send later is repeated then, for a limited time."""
        end = time.monotonic() + PATIENCE_S
        while True:
            status, raw, retry_after_s = self._exchange(method, path, body, limit_s)
            if status != TOO_OFTEN or not retry_after_s or time.monotonic() + retry_after_s > end:
                return status, raw
            time.sleep(retry_after_s)

    def _exchange(self, method: str, path: str, body: bytes | None, limit_s: float) -> tuple[int, bytes, float]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._connection is not None:
            self._connection.timeout = limit_s
            if self._connection.sock is not None:
                self._connection.sock.settimeout(limit_s)
            try:
                return self._once(self._connection, method, path, body, headers)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                # The server has closed the kept connection meanwhile: ask again, once, on a new one.
                self.close()
        self._connection = self._connector.connect(limit_s)
        return self._once(self._connection, method, path, body, headers)

    @staticmethod
    def _once(
        connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes, float]:
        # A server that refuses early has answered before it closed, with the rest of the request unread or not.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body=body, headers=headers)
        # Closed explicitly: a Ctrl+C that arrives while the garbage collector closes it would be lost.
        with connection.getresponse() as answer:
            seconds = answer.getheader("Retry-After", "0")
            return answer.status, answer.read(), float(seconds) if seconds.isdecimal() else 0.0


class _ErrorText(msgspec.Struct):
    """The fields of an `ErrorView` that every version sends."""

    error: str
    message: str


def error_of(raw: bytes, status: int) -> OdcError:
    """Return the server's error as an instance of its own class, or of the class that has its status.

    Fields that a newer server sends in another form are left out.
    """
    try:
        view = msgspec.json.decode(raw, type=ErrorView)
    except msgspec.MsgspecError:
        try:
            text = msgspec.json.decode(raw, type=_ErrorText)
        except msgspec.MsgspecError:
            return ProviderUnavailable(f"the ODC daemon answers with status {status}")
        view = ErrorView(error=text.error, message=text.message)
    kind = getattr(errors, view.error, None)
    if not (isinstance(kind, type) and issubclass(kind, OdcError)):
        kind = kind_of_status(status)
    return kind(view.text or view.message, *(hint_of(hint) for hint in view.hints), when=view.when)
