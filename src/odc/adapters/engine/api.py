"""Podman's own API over a unix socket, with its errors turned into ODC's.

A thin layer on the `podman` package's transport: its object model lacks what boxes need (user-namespace mappings, CDI
devices, isolated networks). One connection for each thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from podman.api.client import APIClient

from odc.domain.errors import PlaceTaken, ProviderError, ProviderRefused, ProviderUnavailable

TIMEOUT_S = 60.0
_JSON = {"Content-Type": "application/json"}

# What the engine says when asking again gives the same answer. Everything else is taken as passing.
_LASTING = (
    "no such image",
    "image not known",
    "exec format error",
    "executable file not found",
    "no such file or directory: oci",
    "unresolvable cdi devices",
    "invalid reference format",
)
_TAKEN = ("address already in use", "cannot listen on the tcp port")


class PodmanApi:
    """Asks the engine behind one socket."""

    def __init__(self, socket: Path) -> None:
        self._address = f"unix://{socket}"
        self._socket = socket
        self._local = threading.local()

    def get(self, path: str, **params: Any) -> Any:
        """What stands at the path; None if there is nothing (404).

        Raises:
            ProviderUnavailable, ProviderRefused: the engine's answer, shortened.
        """
        response = self._ask("GET", path, params=params)
        return None if response.status_code == 404 else self._checked(response).json()

    def text(self, path: str, **params: Any) -> bytes:
        """The raw bytes at the path; empty if there is nothing."""
        response = self._ask("GET", path, params=params)
        return b"" if response.status_code == 404 else self._checked(response).content

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S, **params: Any
    ) -> tuple[int, Any]:
        """Send; the status (also 304, 404 and 409, which callers tell apart) and the answer."""
        response = self._ask("POST", path, params=params, body=body, timeout_s=timeout_s)
        if response.status_code in (304, 404, 409):
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
            response: requests.Response = getattr(self._client(), method.lower())(path, **sent)
        except (requests.RequestException, OSError, ValueError) as error:
            self._local.client = None
            raise ProviderUnavailable(f"the container engine does not answer on {self._socket}") from error
        return response

    def _client(self) -> APIClient:
        client = getattr(self._local, "client", None)
        if client is None:
            client = APIClient(base_url=self._address, timeout=TIMEOUT_S)
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
        return response.text[:300]
    text = answer.get("message") or answer.get("cause") or "" if isinstance(answer, dict) else ""
    return str(text).strip().splitlines()[-1][:300] if text else f"status {response.status_code}"


def error_of(status: int, words: str) -> ProviderError:
    """ODC's error for an answer of the engine.

    Args:
        status: of the HTTP answer, 400 or more.
        words: the telling line of the answer.
    """
    lower = words.lower()
    if any(part in lower for part in _TAKEN):
        return PlaceTaken(f"the engine: {words}")
    if status in (400, 404) or any(part in lower for part in _LASTING):
        return ProviderRefused(f"the engine: {words}")
    return ProviderUnavailable(f"the engine: {words}")
