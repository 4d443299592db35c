"""Following a reservation on a server that answers every wait at once, as one that holds too many already."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
from tests.unit.cli.screen import NOW, a_queued, a_view, an_output

from odc.cli.context import Session
from odc.cli.follow import follow
from odc.domain.status import Status

UNCHANGED_S = 1.5
QUEUED = a_queued()


class _Hasty(BaseHTTPRequestHandler):
    """Answers at once: queued for a while, and then active."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer, and count it."""
        server = self.server
        assert isinstance(server, _Server)
        server.asked += 1
        is_over = time.monotonic() > server.began + UNCHANGED_S
        body = msgspec.json.encode(a_view(version=QUEUED.version + 1) if is_over else QUEUED)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log; a unix socket has no address to write."""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Hasty)
        self.asked = 0
        self.began = time.monotonic()


@contextmanager
def hasty_server(path: Path) -> Iterator[_Server]:
    """The server, listening at the path."""
    with _Server(path) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_cannot_hold_a_wait_is_asked_once_in_a_second(short_folder: Path) -> None:
    path = short_folder / "odc.sock"
    session = Session(home=Path("/nowhere"), output=an_output(), now=lambda: NOW, endpoint_typed=f"unix://{path}")
    with hasty_server(path) as server:
        assert follow(session, QUEUED, (Status.ACTIVE,)).state is Status.ACTIVE
        session.client().close()
    assert server.asked <= 1 + UNCHANGED_S + 1
