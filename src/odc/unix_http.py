"""HTTP over a unix socket, by the standard library only: `gpu-dev` imports it, and must start quickly."""

from __future__ import annotations

import http.client
import select
import socket


class UnixConnection(http.client.HTTPConnection):
    """A connection to the server on one unix socket. It connects with the first request; not for several threads."""

    def __init__(self, path: str, timeout_s: float) -> None:
        """Name the server.

        Args:
            path: of its socket.
            timeout_s: how long connecting, and each read and write, may take.
        """
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: no program listens there, or this user may not connect.
        """
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def set_timeout(self, timeout_s: float) -> None:
        """Set the time limit of the next request, in seconds."""
        self.timeout = timeout_s
        if self.sock is not None:
            self.sock.settimeout(timeout_s)

    def is_usable(self) -> bool:
        """Whether it is still open. Between two requests a server sends nothing, so a readable socket was closed."""
        if self.sock is None:
            return False
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return not poller.poll(0)
