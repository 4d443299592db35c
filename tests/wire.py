"""HTTP as it is on the wire, well formed or not, over a unix socket, from a process of any uid."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BY_ANOTHER = """
import socket, sys
wire = socket.socket(socket.AF_UNIX)
wire.settimeout(20)
wire.connect(sys.argv[1])
wire.sendall(sys.stdin.buffer.read())
while piece := wire.recv(65536):
    sys.stdout.buffer.write(piece)
"""


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 if nothing did."""

    status: int
    head: str
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON and called so."""
        assert "content-type: application/json" in self.head.lower(), self
        return json.loads(self.body)

    def error(self) -> Any:
        """The body, which must be an error's."""
        view = self.json()
        assert set(view) == {"error", "message", "text", "when", "hint", "hints"}, view
        assert view["message"]
        return view


def message(method: str, target: str, body: bytes | None = None, headers: Iterable[str] = ()) -> bytes:
    """A request that is to be the last on its connection."""
    lines = [f"{method} {target} HTTP/1.1", "Host: odc", "Connection: close", *headers]
    if body is not None:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


def envelope(request: Any, request_id: str = "a" * 32, **more: Any) -> bytes:
    """The body of a request; surrogates and all."""
    return json.dumps({"id": request_id, "request": request, **more}).encode()


def connected(path: Path, timeout_s: float = 20) -> socket.socket:
    """A connection to the server."""
    wire = socket.socket(socket.AF_UNIX)
    wire.settimeout(timeout_s)
    wire.connect(str(path))
    return wire


def read_answer(wire: socket.socket) -> Answer:
    """What comes until the server closes."""
    raw = b""
    with contextlib.suppress(ConnectionResetError):  # closed with some of ours unread
        while piece := wire.recv(65536):
            raw += piece
    return _parsed(raw)


def read_one(wire: socket.socket) -> Answer:
    """The next answer of a connection that goes on."""
    response = http.client.HTTPResponse(wire)
    response.begin()
    return Answer(response.status, str(response.headers), response.read())


def exchange(path: Path, data: bytes, timeout_s: float = 20) -> Answer:
    """Send all of it, as far as the server takes it, and read the answer."""
    with connected(path, timeout_s) as wire:
        with contextlib.suppress(BrokenPipeError):  # refused early: the answer is there already
            wire.sendall(data)
        return read_answer(wire)


def get(path: Path, target: str) -> Any:
    """What a question is answered with; it must be answered."""
    answer = exchange(path, message("GET", target))
    assert answer.status == 200, answer
    return answer.json()


def as_user(uid: int, path: Path, data: bytes) -> Answer:
    """Send all of it from a process of this uid."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _BY_ANOTHER, str(path)],
        input=data,
        capture_output=True,
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return _parsed(done.stdout)


def _parsed(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return Answer(int(words[1]) if len(words) > 1 else 0, head.decode("latin-1"), body)
