"""Podman's own API over a unix socket, with its errors turned into ODC's.

A thin layer on the `podman` package's transport: its object model lacks what boxes need (user-namespace mappings, CDI
devices, isolated networks). One connection is kept for each thread. The table of errors is at the end of this file.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from podman.api.client import APIClient
from urllib3.exceptions import HTTPError

from odc.domain.errors import PlaceTaken, ProviderError, ProviderRefused, ProviderUnavailable

TIMEOUT_S = 60.0
CONNECT_S = 5.0
_JSON = {"Content-Type": "application/json"}

WORDS_LIMIT = 300
_PASSED_ON = (304, 404, 409)


class PodmanApi:
    """Asks the engine behind one socket. May be used by several threads at once."""

    def __init__(self, address: Path, revive: Callable[[], None] | None = None) -> None:
        """Name the engine; nothing is asked yet.

        Args:
            address: the socket of the engine's service.
            revive: called when nobody listens there; it brings the service back for later calls.
        """
        self._socket = address
        self._revive = revive
        self._local = threading.local()

    def get(self, path: str, timeout_s: float = TIMEOUT_S, **params: Any) -> Any:
        """What stands at the path; None if there is nothing (404).

        Raises:
            ProviderUnavailable, ProviderRefused: the engine's answer, shortened.
        """
        response = self._ask("GET", path, params=params, timeout_s=timeout_s)
        return None if response.status_code == 404 else self._checked(response).json()

    def text(self, path: str, timeout_s: float = TIMEOUT_S, **params: Any) -> bytes:
        """The raw bytes at the path; empty if there is nothing."""
        response = self._ask("GET", path, params=params, timeout_s=timeout_s)
        return b"" if response.status_code == 404 else self._checked(response).content

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S, **params: Any
    ) -> tuple[int, Any]:
        """Send; the status (also 304, 404 and 409, which callers tell apart) and the answer."""
        response = self._ask("POST", path, params=params, body=body, timeout_s=timeout_s)
        if response.status_code in _PASSED_ON:
            return response.status_code, _words(response)
        self._checked(response)
        return response.status_code, response.json() if response.content else None

    def delete(self, path: str, timeout_s: float = TIMEOUT_S, **params: Any) -> None:
        """Delete what stands at the path; nothing there is no error."""
        response = self._ask("DELETE", path, params=params, timeout_s=timeout_s)
        if response.status_code != 404:
            self._checked(response)

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        body: Mapping[str, Any] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> requests.Response:
        sent: dict[str, Any] = {"params": dict(params), "timeout": timeout_s}
        if method == "POST":
            sent |= {"data": None if body is None else json.dumps(body), "headers": _JSON}
        try:
            self._knock()
            response: requests.Response = getattr(self._client(), method.lower())(path, **sent)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            self._drop_connection()
            if isinstance(error.__cause__, requests.Timeout):  # the package wraps what it got
                raise ProviderUnavailable(f"the container engine took longer than {timeout_s:g} s") from error
            if self._revive is not None:
                self._revive()
            raise ProviderUnavailable(f"the container engine does not answer on {self._socket}") from error
        return response

    def _knock(self) -> None:
        """Fail at once, and cleanly, when nobody listens: the package forgets a socket that could not connect."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_S)
            probe.connect(str(self._socket))

    def _drop_connection(self) -> None:
        client = getattr(self._local, "client", None)
        if client is not None:
            client.close()
        self._local.client = None

    def _client(self) -> APIClient:
        client = getattr(self._local, "client", None)
        if client is None:
            client = APIClient(base_url=f"unix://{self._socket}", timeout=TIMEOUT_S)
            self._local.client = client
        return client

    def _checked(self, response: requests.Response) -> requests.Response:
        if response.status_code >= 400:
            raise error_of(response.status_code, _words(response))
        return response


def _words(response: requests.Response) -> str:
    """The telling line of the engine's answer."""
    try:
        answer = response.json()
    except ValueError:
        return telling_line(response.text) or f"status {response.status_code}"
    text = (answer.get("message") or answer.get("cause") or "") if isinstance(answer, dict) else ""
    return telling_line(str(text)) or f"status {response.status_code}"


# The engine wraps causes in causes; these say only where in the engine something happened.
_WRAPPING = re.compile(
    r"^(preparing container \S+ for attach|(crun|runc)( create failed)?|unable to start container process"
    r"|error during container init|(container|failed to) create|error (creating|starting) \S+|creating \S+"
    r"|container_linux\.go:\d+|netavark( \(exit code \d+\))?|internal libpod error|OCI runtime error): "
)


def telling_line(text: str) -> str:
    """The last line of what the engine said, without the steps that it was in, shortened.

    Args:
        text: a message of the engine, of any length.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    while (found := _WRAPPING.match(line)) and len(found.group()) < len(line):
        line = line[found.end() :]
    return line[:WORDS_LIMIT]


_TAKEN = (
    "address already in use",
    "cannot listen on the tcp port",
    "is already used on the host or by another config",
    "subnet is already used",
)
"""What a stranger has taken: the port, or the addresses that go with it. Another place may do."""

_NO_IMAGE = ("no such image", "image not known")

_LASTING = (
    "exec format error",
    "executable file not found",
    "no such file or directory: oci",
    "attempted to invoke a command that was not found",
    "unresolvable cdi devices",
    "invalid reference format",
)
"""What stays as it is however often it is asked for. Everything else that is not the request's own fault may pass."""


def error_of(status: int, words: str) -> ProviderError:
    """ODC's error for an answer of the engine.

    | the engine says | error |
    |---|---|
    | the port or the network's addresses are taken | PlaceTaken |
    | there is no such image | ProviderRefused, with what makes one |
    | 400, 404, or words that stay true (see `_LASTING`) | ProviderRefused |
    | anything else | ProviderUnavailable |

    Args:
        status: of the HTTP answer, 400 or more.
        words: the telling line of the answer.
    """
    lower = words.lower()
    if any(part in lower for part in _TAKEN):
        return PlaceTaken(f"the engine: {words}")
    if any(part in lower for part in _NO_IMAGE):
        return ProviderRefused(f"the engine: {words}; the operator makes the cloud's own by: odc image build")
    if status in (400, 404) or any(part in lower for part in _LASTING):
        return ProviderRefused(f"the engine: {words}")
    return ProviderUnavailable(f"the engine: {words}")
