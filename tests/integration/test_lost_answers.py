"""Requests whose answer is lost, as when the daemon is killed after its write: real connections, and a relay that cuts
them.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.cloud import Person
from tests.small_cloud import SmallCloud

from odc.api import client as client_module
from odc.api.client import Client
from odc.domain.errors import ProviderUnavailable
from odc.domain.requests import Reserve

ANSWER_LIMIT_S = 5.0


class Relay:
    """Passes connections on to a cloud, and cuts those with a POST before the answer, as long as it is told to."""

    def __init__(self, address: Path, cloud: SmallCloud, cut: int) -> None:
        self.left = cut
        self._cloud = cloud
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        address.chmod(0o666)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, socket.socket(socket.AF_UNIX) as server:
                    server.connect(str(self._cloud.socket))
                    while self._passed(client, server):
                        pass

    def _passed(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass one request and its answer on; False once the connection is over. A request is shorter than a buffer."""
        asked = client.recv(2**16)
        if not asked:
            return False
        if asked.startswith(b"POST") and asked.endswith(b"\r\n\r\n"):
            asked += client.recv(2**16)
        server.sendall(asked)
        answer = http.client.HTTPResponse(server)
        answer.begin()
        body = answer.read()
        if asked.startswith(b"POST") and self.left:
            self.left -= 1
            return False
        client.sendall(f"HTTP/1.1 {answer.status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@contextmanager
def relay(cloud: SmallCloud, cut: int) -> Iterator[Path]:
    """The address of a relay that loses this many answers to requests."""
    address = cloud.socket.with_name("relay.sock")
    made = Relay(address, cloud, cut)
    try:
        yield address
    finally:
        made.close()
        address.unlink()


def test_a_reservation_whose_answer_was_lost_is_asked_for_again_and_made_once(ada: Person, cloud: SmallCloud) -> None:
    with relay(cloud, cut=4) as address:
        command = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "--disk", "none", "-n", "one", "--no-wait")
        made = ada.gpu_dev(*command, GPU_DEV_ENDPOINT=f"unix://{address}")
    assert (made.code, "error" in made.err) == (0, False), made
    assert [view["name"] for view in ada.json("list")["reservations"]] == ["one"]


REQUESTS: dict[str, tuple[Callable[[Client], object], str]] = {
    "reserve": (lambda client: client.reserve(Reserve(gpu_type="t4", gpus=1, hours=1, disk="")), "gpu-dev list"),
    "cancel": (lambda client: client.cancel("0123abcd"), "gpu-dev show 0123abcd"),
    "keys": (lambda client: client.set_own_keys(()), "gpu-dev config show"),
    "move": (lambda client: client.move_user("ann", "bob"), "odc user list"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_once_it_gives_up_the_error_says_that_it_may_have_been_done_and_how_to_check(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(client_module, "RESEND_LIMIT_S", 0.5)
    ask, check = REQUESTS[name]
    with relay(cloud, cut=1000) as address:
        client = Client(str(address))
        with pytest.raises(ProviderUnavailable, match="; it may have accepted the request before") as refused:
            ask(client)
        client.close()
    assert (refused.value.hints[0].label, refused.value.hints[0].command) == ("check", check)


def test_a_request_that_never_arrived_is_not_said_to_be_accepted(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable, match=f"^there is no ODC daemon on {tmp_path}/gone.sock$"):
        Client(str(tmp_path / "gone.sock")).cancel("0123abcd")
    assert time.monotonic() - began < ANSWER_LIMIT_S
