"""A real HTTP server that plays GitHub's two key endpoints, with GitHub's bad days."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Login:
    number: int
    body: bytes


@dataclass
class GitHub:
    """What the server answers; changed by tests while it runs.

    Attributes:
        address: of both `<login>.keys` and `users/<login>`.
        logins: by lower-case login.
        status: of every answer about keys, when it is not 200.
        api_status: of every answer about a login's number, when it is not 200.
        location: where answers about keys send the client, if anywhere.
        raw: sent instead of any HTTP answer, and the connection closed.
        silent: nothing is answered until the server is stopped.
        drip: the body comes a byte at a time, slower than anybody waits.
        asked: every path that was asked for.
    """

    address: str = ""
    logins: dict[str, Login] = field(default_factory=dict)
    status: int = 200
    api_status: int = 200
    location: str = ""
    raw: bytes | None = None
    silent: bool = False
    drip: bool = False
    asked: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def set_keys(self, login: str, *lines: str, number: int = 583231) -> None:
        """Let the login have these lines as its keys; the same login with another number is another account."""
        self.logins[login.lower()] = Login(number, "".join(f"{line}\n" for line in lines).encode())

    def remove(self, login: str) -> None:
        """Let there be no such login."""
        self.logins.pop(login.lower(), None)


class _Handler(BaseHTTPRequestHandler):
    github: GitHub

    def do_GET(self) -> None:
        github = self.github
        github.asked.append(self.path)
        if github.silent:
            github.stopped.wait()
            return
        if github.raw is not None:
            self.wfile.write(github.raw)
            self.close_connection = True
            return
        if self.path.startswith("/user/"):
            self._user()
        else:
            self._users() if self.path.startswith("/users/") else self._keys()

    def _user(self) -> None:
        logins = [name for name, login in self.github.logins.items() if f"/user/{login.number}" == self.path]
        if self.github.api_status != 200 or not logins:
            self._answer(self.github.api_status if self.github.api_status != 200 else 404, b'{"message": "no"}')
            return
        self._answer(200, json.dumps({"login": logins[0]}).encode())

    def _users(self) -> None:
        found = self.github.logins.get(self.path.removeprefix("/users/").lower())
        if self.github.api_status != 200 or found is None:
            self._answer(self.github.api_status if self.github.api_status != 200 else 404, b'{"message": "no"}')
            return
        self._answer(200, json.dumps({"login": self.path[7:], "id": found.number}).encode())

    def _keys(self) -> None:
        found = self.github.logins.get(self.path.removeprefix("/").removesuffix(".keys").lower())
        if self.github.location:
            self._answer(302, b"", ("Location", self.github.location))
        elif self.github.status != 200:
            self._answer(self.github.status, b"no")
        elif found is None:
            self._answer(404, b"Not Found")
        else:
            self._answer(200, found.body)

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        for byte in body if self.github.drip else ():
            if self.github.stopped.wait(0.05):
                return
            self.wfile.write(bytes([byte]))
        if not self.github.drip:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some tests are about."""


@contextmanager
def serve_github() -> Iterator[GitHub]:
    """The server, on a free port of this machine, until the block ends."""
    github = GitHub()
    handler = type("Handler", (_Handler,), {"github": github})
    server = _Server(("127.0.0.1", 0), handler)
    github.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield github
    finally:
        github.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()
