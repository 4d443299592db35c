"""How a client reaches the daemon of an endpoint: `connector_of` returns the connector for its scheme.

There is one for `unix` now. A connector opens connections, and words what a user or operator can do while nothing
answers: `sudo odc up` helps on the cloud's own machine only. Code that uses loopback addresses asks `is_local`.
"""

from __future__ import annotations

import http.client
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from odc.domain.errors import Hint, InvalidRequest
from odc.unix_http import UnixConnection

DEFAULT_SOCKET = "/run/odc/odc.sock"
UNIX = "unix://"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_PLANNED = ("ssh", "https", "aws")
"""Schemes of endpoints that only a later version can connect to."""
_LONGEST_PATH = 4096


class Connector(Protocol):
    """The way to the daemon of one endpoint."""

    @property
    def address(self) -> str:
        """The daemon's address, for messages."""

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a connection, which is opened by its first request.

        Args:
            timeout_s: how long connecting, and each read and write, may take.
        """

    def operator_command(self) -> str:
        """Return `odc` as the operator of this cloud types it."""

    def away_hints(self, error: Exception) -> tuple[Hint, ...]:
        """Return what makes the daemon answer again, or shows why it does not.

        Args:
            error: what connecting or waiting for the answer raised.
        """

    def why_away(self, error: Exception) -> str:
        """Return the message for a daemon that does not answer.

        Args:
            error: what connecting or waiting for the answer raised.
        """


def is_hung(error: BaseException | None) -> bool:
    """Whether this error of a connection means that a daemon runs and does not answer, as when it is suspended: the
    kernel connects in its place, until the queue is full.
    """
    return isinstance(error, TimeoutError | BlockingIOError)


def connector_of(endpoint: str, *hints: Hint) -> Connector:
    """Return the connector of an endpoint: `unix:///path`, or the path itself.

    Args:
        endpoint: as the user set it.
        hints: further hints for the error.

    Raises:
        InvalidRequest: the endpoint is malformed, or of a kind that this version cannot connect to.
    """
    example = Hint("for example", f"{UNIX}{DEFAULT_SOCKET}")
    scheme = _scheme(endpoint)
    if scheme in _PLANNED:
        text = f"this version connects to unix:///path only, not by {scheme}:// as in {endpoint!r}"
        raise InvalidRequest(text, example, *hints)
    path = endpoint.removeprefix(UNIX)
    if not path.startswith("/"):
        raise InvalidRequest(f"the endpoint {endpoint!r} is not unix:///path", example, *hints)
    return UnixConnector(path)


def is_local(endpoint: str) -> bool:
    """Whether the cloud of an endpoint is on this machine: then its boxes' loopback addresses are this machine's."""
    return _scheme(endpoint) in ("", "unix")


def _scheme(endpoint: str) -> str:
    found = _SCHEME.match(endpoint)
    return found[1].lower() if found else ""


@dataclass(frozen=True, slots=True)
class UnixConnector:
    """The way to a daemon on this machine, by its socket.

    Attributes:
        address: the socket's path.
    """

    address: str

    def connect(self, timeout_s: float) -> UnixConnection:
        """Return a connection; arguments as for `Connector`."""
        return UnixConnection(self.address, timeout_s)

    def operator_command(self) -> str:
        """Return `odc` with the cloud's settings file, if one is noted next to the socket."""
        return operator_command(self.address)

    def away_hints(self, error: Exception) -> tuple[Hint, ...]:
        """Return the command that starts the cloud, or starts it again; without a note, its settings file is left
        open.
        """
        odc = self.operator_command()
        is_unknown = odc == "odc" and self.address != DEFAULT_SOCKET
        odc = "odc --config FILE" if is_unknown else odc
        start = Hint("start it", f"sudo {odc} up")
        if is_hung(error):
            start = Hint("restart it", f"sudo {odc} down && sudo {odc} up")
        return (start,) if is_unknown else (start, Hint("look closer", f"{odc} doctor"))

    def why_away(self, error: Exception) -> str:
        """Return the message; without a socket and a cloud known to have it, the address is probably wrong."""
        if is_hung(error):
            return f"the ODC daemon is running but does not answer on {self.address}"
        is_unknown = self.address != DEFAULT_SOCKET and self.operator_command() == "odc"
        if isinstance(error, FileNotFoundError) and is_unknown:
            return f"there is no ODC daemon on {self.address}"
        return f"the ODC daemon does not answer on {self.address}"


def settings_note(socket: str) -> Path:
    """Return the file in which a cloud records its settings file, for commands that find its daemon down."""
    return Path(f"{socket}.settings")


def operator_command(socket: str) -> str:
    """Return `odc` for the cloud of this socket, with its settings file if one is noted.

    A note is used only if only root can have written it: the command is pasted after `sudo`.
    """
    note = settings_note(socket)
    try:
        with note.open("rb") as file:
            owned = os.fstat(file.fileno())
            trusted = owned.st_uid == 0 and not owned.st_mode & 0o022
            text = file.read(_LONGEST_PATH).decode().strip() if trusted else ""
    except (OSError, ValueError):
        return "odc"
    is_path = text.startswith("/") and text.isprintable() and not _is_missing(text)
    return f"odc --config {shlex.quote(text)}" if is_path else "odc"


def _is_missing(path: str) -> bool:
    try:
        Path(path).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
