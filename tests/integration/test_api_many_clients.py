"""Very many clients at once, well behaved or not, and the others are served meanwhile.

Rows 43 and 54 of docs/survives.md, on the wire.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket

import pytest
from tests.builders import KEY
from tests.small_cloud import SmallCloud
from tests.wire import as_user, connected, exchange, get, message, read_answer

from odc.api import peer_credentials
from odc.api.client import Client
from odc.api.messages.reservations import ReservationView
from odc.api.request_body import MAX_BODY
from odc.domain.requests import Reserve

SOMEBODY = 64123
"""A uid that nobody has."""
ME = message("GET", "/v1/me")


@pytest.fixture
def cloud(open_cloud: SmallCloud) -> SmallCloud:
    return open_cloud


@contextmanager
def many(cloud: SmallCloud, count: int, said: bytes) -> Iterator[list[socket]]:
    """So many connections at once, each of which has said this."""
    with ExitStack() as stack:
        wires = [stack.enter_context(connected(cloud.socket, 60)) for _ in range(count)]
        for wire in wires:
            wire.sendall(said)
        yield wires


def an_active_one(client: Client) -> ReservationView:
    client.set_own_keys((KEY,))
    view = client.reserve(Reserve(gpu_type="h100", gpus=1, hours=1.0))
    deadline = time.monotonic() + 60
    while view.state != "active":
        assert time.monotonic() < deadline, view
        view = client.reservation(view.id, wait_s=5, version=view.version)
    return view


def usual_s(client: Client) -> float:
    """How long an answer takes: the median of many."""
    taken = []
    for _ in range(41):
        started = time.perf_counter()
        client.me()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def test_two_hundred_clients_that_wait_hold_no_thread_and_slow_nobody(cloud: SmallCloud) -> None:
    client = Client(cloud.endpoint)
    view = an_active_one(client)
    alone = usual_s(client)
    threads = threading.active_count()
    wait = message("GET", f"/v1/reservations/{view.id}?wait=30&version={view.version + 100}")
    with many(cloud, 200, wait) as wires:
        beside = usual_s(client)
        assert threading.active_count() - threads <= 20
        assert beside < 5 * alone + 0.02
        client.cancel(view.id)
        client.close()
        for wire in wires:
            wire.close()


def test_each_of_two_hundred_clients_hears_of_the_change(cloud: SmallCloud) -> None:
    client = Client(cloud.endpoint)
    view = an_active_one(client)
    started = time.monotonic()
    with many(cloud, 200, message("GET", f"/v1/reservations/{view.id}?wait=30&version={view.version}")) as wires:
        client.cancel(view.id)
        client.close()
        answers = [read_answer(wire).json() for wire in wires]
    assert time.monotonic() - started < 25
    assert min(answer["version"] for answer in answers) > view.version


def test_the_places_of_clients_that_left_are_free_again(cloud: SmallCloud) -> None:
    client = Client(cloud.endpoint)
    view = an_active_one(client)
    client.close()
    wait = message("GET", f"/v1/reservations/{view.id}?wait=30&version={view.version + 100}")
    deadline = time.monotonic() + 25
    for _ in range(3):
        with many(cloud, peer_credentials.CONNECTIONS_PER_USER - 6, wait):
            pass
        while exchange(cloud.socket, ME).status != 200:
            assert time.monotonic() < deadline, "those that left still count"


def test_fifty_clients_at_the_same_moment_are_all_served(cloud: SmallCloud) -> None:
    begin = threading.Barrier(50)

    def ask(number: int) -> int:
        begin.wait(60)
        return exchange(cloud.socket, message("GET", ("/v1/me", "/v1/avail", "/v1/status")[number % 3]), 60).status

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(ask, range(50))) == {200}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_one_user_cannot_take_the_places_of_another(cloud: SmallCloud) -> None:
    with many(cloud, peer_credentials.CONNECTIONS_PER_USER, b"GET /v1/me"):
        refused = exchange(cloud.socket, ME)
        assert (refused.status, refused.error()["error"]) == (429, "LimitExceeded")
        assert f"has {peer_credentials.CONNECTIONS_PER_USER} connections open already" in refused.error()["message"]
        assert as_user(SOMEBODY, cloud.socket, ME).json()["user"] == f"uid{SOMEBODY}"


def test_what_bad_clients_send_or_do_not_take_is_not_kept(cloud: SmallCloud) -> None:
    big = b"POST /v1/requests HTTP/1.1\r\nHost: o\r\nContent-Length: %d\r\n\r\n" % MAX_BODY + b" " * (MAX_BODY - 1)
    questions = b"GET /v1/openapi.json HTTP/1.1\r\nHost: o\r\n\r\n" * 2000
    get(cloud.socket, "/v1/openapi.json")
    before = memory_bytes()
    with many(cloud, 50, big), ExitStack() as stack:
        for _ in range(100):
            wire = stack.enter_context(connected(cloud.socket))
            wire.setblocking(False)
            wire.send(questions)
        for _ in range(50):
            get(cloud.socket, "/v1/me")
        assert memory_bytes() - before < 50 * 3 * MAX_BODY + 100 * (1 << 20)


def memory_bytes() -> int:
    """What this process, and with it the server, has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_client_that_does_not_take_its_answer_is_closed(cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_credentials, "ARRIVAL_S", 0.5)
    with many(cloud, 1, b"GET /v1/openapi.json HTTP/1.1\r\nHost: o\r\n\r\n" * 500) as (wire,):
        deadline = time.monotonic() + 30
        while not hung_up(wire):
            assert time.monotonic() < deadline, "its connection is still open"
            time.sleep(0.05)


def hung_up(wire: socket) -> bool:
    """Whether the server has closed; nothing that it sent is taken."""
    try:
        wire.send(b"x")
    except OSError:
        return True
    return False
