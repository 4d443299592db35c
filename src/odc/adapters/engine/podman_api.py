"""Podman's own API over a unix socket. Errors are mapped to classes in `errors.py`.

Idle connections are kept for the next requests. A connection that the service has closed, as after its restart, is
replaced. Only a GET is sent a second time, if the service closed the idle connection at the same moment.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from odc.adapters.engine.errors import error_of, telling_line
from odc.domain.errors import ProviderUnavailable
from odc.unix_http import UnixConnection

TIMEOUT_S = 60.0
MAX_IDLE = 8
"""Idle connections that are kept."""
_PREFIX = "/v5.0.0/libpod"
"""The version decides in which form the service answers; Podman 4.3 serves newer versions in its own newest form."""
_NOT_FOUND = 404


class _Answer(NamedTuple):
    status: int
    content: bytes

    def json(self) -> Any:
        try:
            return msgspec.json.decode(self.content)
        except msgspec.DecodeError as error:
            raise ProviderUnavailable("the container engine's answer is not JSON") from error

    def words(self) -> str:
        """Return the most specific line of an error."""
        try:
            answer = msgspec.json.decode(self.content)
        except msgspec.DecodeError:
            return telling_line(self.content.decode(errors="replace")) or f"status {self.status}"
        text = (answer.get("message") or answer.get("cause") or "") if isinstance(answer, dict) else ""
        return telling_line(str(text)) or f"status {self.status}"


class PodmanApi:
    """Asks the engine behind one socket. May be used by several threads at once."""

    def __init__(self, address: Path, revive: Callable[[], None] | None = None) -> None:
        """Store the arguments; the engine is not called yet.

        Args:
            address: the socket of the engine's service.
            revive: called if the socket refuses connections; it starts the service again for later calls.
        """
        self._socket = address
        self._revive = revive
        self._lock = threading.Lock()
        self._idle: list[UnixConnection] = []
        weakref.finalize(self, _close_all, self._idle)

    def get(self, path: str, timeout_s: float = TIMEOUT_S, **params: Any) -> Any:
        """The object at the path, decoded from JSON; None if it does not exist (404).

        Raises:
            ProviderUnavailable, ProviderRefused: the engine's answer, shortened.
        """
        answer = self._ask("GET", path, timeout_s, params)
        return None if answer.status == _NOT_FOUND else _checked(answer).json()

    def text(self, path: str, timeout_s: float = TIMEOUT_S, **params: Any) -> bytes:
        """The raw bytes at the path; empty if it does not exist."""
        answer = self._ask("GET", path, timeout_s, params)
        return b"" if answer.status == _NOT_FOUND else _checked(answer).content

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S, **params: Any
    ) -> tuple[int, Any]:
        """Send a POST; return the status (304 if there was nothing to do) and the answer, decoded from JSON.

        Raises:
            ProviderError: the class that `errors.py` has for the answer.
        """
        answer = _checked(self._ask("POST", path, timeout_s, params, body))
        return answer.status, answer.json() if answer.content else None

    def delete(self, path: str, timeout_s: float = TIMEOUT_S, **params: Any) -> None:
        """Delete the object at the path, if it exists."""
        answer = self._ask("DELETE", path, timeout_s, params)
        if answer.status != _NOT_FOUND:
            _checked(answer)

    def _ask(
        self,
        method: str,
        path: str,
        timeout_s: float,
        params: Mapping[str, Any],
        body: Mapping[str, Any] | None = None,
    ) -> _Answer:
        target = _PREFIX + quote(path, safe="/:@") + (f"?{urlencode(params)}" if params else "")
        sent = None if body is None else msgspec.json.encode(body)
        idle = self._take()
        try:
            if idle is not None and method == "GET":
                # RFC 9110, section 9.2.2: a request that changes nothing may be repeated by the client itself.
                with contextlib.suppress(ConnectionError):
                    return self._send(idle, method, target, timeout_s, sent)
                idle = None
            connection = idle or UnixConnection(str(self._socket), timeout_s)
            return self._send(connection, method, target, timeout_s, sent)
        except TimeoutError as error:
            raise ProviderUnavailable(f"the container engine took longer than {timeout_s:g} s") from error
        except (http.client.HTTPException, OSError) as error:
            if self._revive is not None:
                self._revive()
            raise ProviderUnavailable(f"the container engine does not answer on {self._socket}") from error

    def _send(
        self, connection: UnixConnection, method: str, target: str, timeout_s: float, body: bytes | None
    ) -> _Answer:
        """Send one request; the connection is kept afterwards unless the request failed."""
        headers = {"Content-Type": "application/json"} if method == "POST" else {}
        connection.set_timeout(timeout_s)
        try:
            connection.request(method, target, body=body, headers=headers)
            with connection.getresponse() as response:
                answer = _Answer(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return answer

    def _take(self) -> UnixConnection | None:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_usable():
                    return connection
                connection.close()
        return None

    def _keep(self, connection: UnixConnection) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()


def _checked(answer: _Answer) -> _Answer:
    if answer.status >= 400:
        raise error_of(answer.status, answer.words())
    return answer


def _close_all(connections: list[UnixConnection]) -> None:
    for connection in connections:
        connection.close()
