"""A proxy in front of a cluster's API server: it counts what it passes on, and answers with the faults that are set."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.layout import API_PORT, Layout

CUT = 0
"""As a status: the connection is closed in the middle of the answer."""
PASSED = ("Authorization", "Content-Type", "Accept")
REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}


@dataclass
class Fault:
    """A fault of the next requests that match.

    Attributes:
        status: of HTTP, or `CUT`.
        skip: requests that pass first.
        times: requests that it hits then.
        acted: whether the API server has carried the request out; only its answer is lost.
        path: pattern of the paths.
        hit: how many it has hit.
    """

    status: int
    skip: int = 0
    times: int = 1
    acted: bool = False
    path: str = "."
    hit: int = 0

    def takes(self, path: str) -> bool:
        """Whether it hits this request."""
        if self.times <= self.hit or not re.search(self.path, path):
            return False
        self.skip -= 1
        self.hit += self.skip < 0
        return self.skip < 0


@dataclass
class ApiProxy:
    """A proxy that runs. Requests of several threads at once are served.

    Attributes:
        layout: of the cluster.
        kubeconfig: leads to the proxy, as the administrator.
        calls: requests, also those that were hit.
        sent: bytes of the answers.
        fault: of the next requests; None for none.
    """

    layout: Layout
    kubeconfig: Path
    calls: int = 0
    sent: int = 0
    fault: Fault | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """The API server's answer, or that of the fault."""
        with self.lock:
            self.calls += 1
            fault = self.fault if self.fault is not None and self.fault.takes(path) else None
        if fault is not None and not fault.acted and fault.status != CUT:
            return fault.status, _failure(fault.status)
        context = ssl.create_default_context(cafile=str(self.layout.certificates / "ca.crt"))
        connection = http.client.HTTPSConnection(self.layout.address, API_PORT, timeout=30, context=context)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        finally:
            connection.close()
        if fault is not None:
            return fault.status, content if fault.status == CUT else _failure(fault.status)
        self.sent += len(content)
        return status, content


def _failure(status: int) -> bytes:
    words = "the object has been modified; please apply your changes to the latest version and try again"
    return json.dumps({"kind": "Status", "code": status, "reason": REASONS[status], "message": words}).encode()


def _handler(proxy: ApiProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else None
            passed = {
                name: self.headers[name] for name in ("Authorization", "Content-Type", "Accept") if name in self.headers
            }
            status, content = proxy.answer(self.command, self.path, body, passed)
            self.send_response(status or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if status else content[: len(content) // 2])
            self.close_connection = status == CUT

    served: Callable[[Any], None] = Handler.serve
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        setattr(Handler, f"do_{method}", served)
    return Handler


@contextmanager
def api_proxy(layout: Layout, folder: Path) -> Iterator[ApiProxy]:
    """Serve on a free port of this machine.

    Args:
        layout: of a cluster that runs.
        folder: for its kubeconfig file.
    """
    proxy = ApiProxy(layout, folder / "kubeconfig")
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy)) as server:
        config = json.loads(layout.kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{server.server_port}"}
        proxy.kubeconfig.write_text(json.dumps(config))
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            serving.join()
