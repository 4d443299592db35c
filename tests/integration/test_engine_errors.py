"""Each error class, as the machine's real engine causes it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.boxes import end_box
from tests.engine import Engine
from tests.waiting import eventually, suspend

from odc.adapters.engine.box_limits import core_limit
from odc.adapters.engine.container import HostPart, container_request, network_request
from odc.adapters.engine.errors import EngineConflict, ImageUnknown, NameTaken, NotRunnable, NotThere
from odc.adapters.engine.podman_api import MAX_IDLE, PodmanApi
from odc.domain.box import SSH, BoxSpec
from odc.domain.errors import PlaceTaken, ProviderUnavailable
from odc.unix_http import UnixConnection

pytestmark = pytest.mark.podman


@pytest.fixture
def spec(engine: Engine) -> Iterator[BoxSpec]:
    """A box that was made and not started."""
    made = engine.spec()
    uid = engine.cluster.create_box(made).uid
    yield made
    end_box(engine.cluster, made.name, uid)
    engine.cluster.clean_up(made.name.reservation_id, made.name.attempt)


def request_of(engine: Engine, spec: BoxSpec, **changes: Any) -> dict[str, Any]:
    return container_request(engine.options, spec, HostPart(ports={}, core=core_limit())) | changes


def test_a_second_container_of_one_name(engine: Engine, spec: BoxSpec) -> None:
    with pytest.raises(NameTaken):
        engine.api.post("/containers/create", request_of(engine, spec))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"image": "localhost/nope:1"}, ImageUnknown), ({"image": "localhost/NOPE:::1"}, NotRunnable)],
)
def test_a_container_of_an_image_that_is_not_there(
    engine: Engine, spec: BoxSpec, changes: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        engine.api.post("/containers/create", request_of(engine, spec, name=f"{engine.cloud}-other", **changes))


def test_a_program_that_is_not_in_the_image(engine: Engine, spec: BoxSpec) -> None:
    changes = {"name": f"{engine.cloud}-other", "entrypoint": ["/nope"]}
    _, answer = engine.api.post("/containers/create", request_of(engine, spec, **changes))
    try:
        with pytest.raises(NotRunnable):
            engine.api.post(f"/containers/{answer['Id']}/start")
    finally:
        engine.api.delete(f"/containers/{answer['Id']}", force=True)


def test_a_second_network_of_one_name_or_of_the_same_addresses(engine: Engine, spec: BoxSpec) -> None:
    network = network_request(engine.options, spec.name, engine.box(spec).ports[SSH])
    with pytest.raises(EngineConflict):
        engine.api.post("/networks/create", network)
    with pytest.raises(PlaceTaken):
        engine.api.post("/networks/create", network | {"name": f"{engine.cloud}-other"})


def test_a_port_that_another_program_has(engine: Engine, spec: BoxSpec) -> None:
    (box,) = engine.cluster.list_boxes()
    with socket.create_server(("127.0.0.1", box.ports[SSH])), pytest.raises(PlaceTaken):
        engine.api.post(f"/containers/{box.uid}/start")


def test_a_container_that_does_not_exist(engine: Engine) -> None:
    with pytest.raises(NotThere):
        engine.api.post("/containers/nope/start")
    assert engine.api.get("/containers/nope/json") is None
    assert engine.api.text("/containers/nope/logs", stdout=True) == b""
    engine.api.delete("/containers/nope")


def test_a_request_after_a_restart_of_the_service_uses_a_new_connection(engine: Engine) -> None:
    assert engine.api.get("/info") is not None
    engine.kill_service()
    with pytest.raises(ProviderUnavailable, match="does not answer on"):
        engine.api.get("/info")
    engine.start_service()
    assert engine.api.get("/info") is not None


def test_a_service_that_hangs_ends_the_request_in_time_and_later_ones_succeed(engine: Engine) -> None:
    assert engine.api.get("/info") is not None
    pid = int((engine.state / "engine" / "podman.pid").read_text())
    suspend(pid)
    try:
        with pytest.raises(ProviderUnavailable, match=r"took longer than 0\.3 s"):
            engine.api.get("/info", timeout_s=0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert engine.api.get("/info") is not None


def connections_of(pid: int) -> int:
    """Open sockets of a process."""

    def is_socket(path: Path) -> bool:
        try:
            return str(path.readlink()).startswith("socket:")
        except OSError:
            return False

    return sum(is_socket(path) for path in Path(f"/proc/{pid}/fd").iterdir())


def ask_from_many_threads(api: PodmanApi) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(5):
                api.get("/containers/json", all=True)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2 * MAX_IDLE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_many_threads_share_the_kept_connections(engine: Engine) -> None:
    before = connections_of(os.getpid())
    api = PodmanApi(engine.service.socket)
    ask_from_many_threads(api)
    assert connections_of(os.getpid()) - before <= MAX_IDLE
    del api
    eventually("they are closed with their owner", lambda: connections_of(os.getpid()) <= before)


@contextmanager
def serving(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[Path]:
    """Listens on a unix socket; each connection is answered and closed."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield path
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """Listens on a unix socket and answers each connection with the given bytes."""
    with ExitStack() as opened:

        def serve(content: bytes) -> Path:
            def answer(connection: socket.socket) -> None:
                connection.recv(65536)
                connection.sendall(content)

            return opened.enter_context(serving(tmp_path / "sock", answer))

        yield serve


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{x}", "is not JSON"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "the engine: oops"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "the engine: status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}", "does not answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer"),
        (b"", "does not answer"),
    ],
)
def test_a_broken_answer_is_an_error(server: Callable[[bytes], Path], answer: bytes, words: str) -> None:
    with pytest.raises(ProviderUnavailable, match=words):
        PodmanApi(server(answer)).get("/info")


def test_a_connection_that_the_server_closed_is_not_used_again(server: Callable[[bytes], Path]) -> None:
    path = server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    connection = UnixConnection(str(path), 5)
    connection.request("GET", "/")
    with connection.getresponse() as answer:
        assert answer.read() == b"{}"
    eventually("the server has closed it", lambda: not connection.is_usable())
    connection.close()
    api = PodmanApi(path)
    assert [api.get("/info"), api.get("/info")] == [{}, {}]


@pytest.fixture
def closing(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """A server that answers the first request of each connection, and closes it when the second one arrives.

    Yields its socket and the request lines, in the order in which they arrived.
    """
    lines: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        lines.append(connection.recv(65536).split(b"\r\n")[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        lines.append(connection.recv(65536).split(b"\r\n")[0])

    with serving(tmp_path / "sock", answer) as path:
        yield path, lines


def test_a_question_that_meets_a_closing_connection_is_asked_again(closing: tuple[Path, list[bytes]]) -> None:
    path, lines = closing
    api = PodmanApi(path)
    assert [api.get("/info"), api.get("/info")] == [{}, {}]
    assert len(lines) == 3


def test_an_action_that_meets_a_closing_connection_is_never_sent_twice(closing: tuple[Path, list[bytes]]) -> None:
    path, lines = closing
    api = PodmanApi(path)
    api.get("/info")
    with pytest.raises(ProviderUnavailable, match="does not answer"):
        api.post("/containers/one/start")
    assert [line.split()[0] for line in lines] == [b"GET", b"POST"]
