"""Whatever comes, the answer is a clear error in JSON, and the server goes on.

Row 1 of docs/survives.md, on the wire.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.small_cloud import SmallCloud, small_cloud
from tests.wire import connected, envelope, exchange, get, message, read_answer, read_one

from odc.api import peer_credentials, request_body

RESERVE = {"kind": "reserve", "gpu_type": "h100", "gpus": 1, "hours": 1.0}
POST = "/v1/requests"
CHUNK = b"80000\r\n" + b"x" * 0x80000 + b"\r\n"


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client sends is a bug of the server."""
    caplog.set_level(logging.INFO)
    yield
    assert [record for record in caplog.records if record.exc_info] == []


BODIES = {
    "nothing": b"",
    "no JSON": b"{nope",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "half": envelope(RESERVE)[:-5],
    "more behind": envelope(RESERVE) + b"{}",
    "no UTF-8": b'{"id":"\xff\xfe"}',
    "no UTF-8 inside": envelope(RESERVE).replace(b"h100", b"h\xc3\x28"),
    "half a character": envelope({**RESERVE, "gpu_type": "\ud800"}),
    "nested": b"[" * 100_000,
    "nested and closed": b'{"id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": b'{"request":' * 20_000 + b"1" + b"}" * 20_000,
    "no id": b'{"request":{"kind":"end_all"}}',
    "no request": b'{"id":"aaaa"}',
    "an id that is none": envelope(RESERVE, "../../etc/passwd"),
    "an id with NUL": envelope(RESERVE, "\0" * 32),
    "an unknown kind": envelope({"kind": "explode"}),
    "no kind": envelope({"gpu_type": "h100"}),
    "a kind that is a number": envelope({"kind": 7}),
    "an unknown field": envelope({**RESERVE, "colour": "red"}),
    "who sends it": envelope({**RESERVE, "user": "root"}),
    "who sends it, outside": envelope(RESERVE, owner="unix:0"),
    "GPUs as text": envelope({**RESERVE, "gpus": "1"}),
    "GPUs as a truth": envelope({**RESERVE, "gpus": True}),
    "GPUs as a fraction": envelope({**RESERVE, "gpus": 1.5}),
    "GPUs beyond any number": envelope({**RESERVE, "gpus": 10**400}),
    "hours as text": envelope({**RESERVE, "hours": "8"}),
    "no hours": envelope({**RESERVE, "hours": None}),
    "hours that are no number": envelope({**RESERVE, "hours": float("nan")}),
    "hours without end": envelope({**RESERVE, "hours": float("inf")}),
    "a type that is a list": envelope({**RESERVE, "gpu_type": ["h100"]}),
    "a name with NUL": envelope({**RESERVE, "name": "a\0b"}),
    "a disk elsewhere": envelope({**RESERVE, "disk": "../x"}),
    "keys that are one text": envelope({"kind": "set_own_keys", "keys": "ssh-ed25519 AAAA"}),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_not_a_request_is_refused_in_json(cloud: SmallCloud, body: bytes) -> None:
    answer = exchange(cloud.socket, message("POST", POST, body))
    assert (answer.status, answer.error()["error"]) == (400, "InvalidRequest")


def test_a_refusal_names_the_field(cloud: SmallCloud) -> None:
    def told(body: bytes) -> str:
        return str(exchange(cloud.socket, message("POST", POST, body)).error()["message"])

    assert "`user`" in told(envelope({**RESERVE, "user": "root"}))
    assert "$.request.gpus" in told(envelope({**RESERVE, "gpus": "1"}))
    assert "'explode'" in told(envelope({"kind": "explode"}))


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "image/png", "?"])
def test_the_body_is_json_whatever_it_is_called(cloud: SmallCloud, content_type: str) -> None:
    head = f"POST {POST} HTTP/1.1\r\nHost: o\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: 2"
    answer = exchange(cloud.socket, f"{head}\r\n\r\n{{}}".encode())
    assert (answer.status, "`id`" in answer.error()["message"]) == (400, True)


TOO_LARGE = {
    "as it says": message("POST", POST, b"x" * (request_body.MAX_BODY + 1)),
    "in pieces": f"POST {POST} HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + CHUNK * 3,
    "as it pretends": f"POST {POST} HTTP/1.1\r\nHost: o\r\nContent-Length: 99999999999\r\n\r\nabc".encode(),
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_body_that_is_too_large_is_refused_before_it_is_read(cloud: SmallCloud, data: bytes) -> None:
    answer = exchange(cloud.socket, data)
    assert answer.status == 413
    assert "larger than 256 KiB" in answer.error()["message"]


PLACES = {
    "a path that is not there": (404, message("GET", "/nothing")),
    "the root": (404, message("GET", "/")),
    "a path below": (404, message("GET", "/v1/reservations/a/b/c")),
    "a slash in a reference": (404, message("GET", "/v1/reservations/..%2f..%2fetc")),
    "another method": (405, message("DELETE", "/v1/status")),
    "a method that nobody knows": (405, message("BREW", "/v1/me")),
    "a question where one asks for things": (405, message("GET", POST)),
    "a reference with NUL": (404, message("GET", "/v1/reservations/a%00b")),
    "a reference that is no UTF-8": (404, message("GET", "/v1/reservations/%ff%fe")),
    "a reference without end": (404, message("GET", "/v1/reservations/" + "a" * 20_000)),
    "an empty reference": (404, message("GET", "/v1/reservations/%20")),
    "a wait that is no number": (400, message("GET", "/v1/reservations/abcd?wait=soon")),
    "a truth that is none": (400, message("GET", "/v1/reservations?all=perhaps")),
    "a status that is none": (400, message("GET", "/v1/reservations?status=dead")),
    "no HTTP": (400, b"\x16\x03\x01\x02\x00\x01\x00" + b"A" * 50 + b"\r\n\r\n"),
    "a header without end": (400, message("GET", "/v1/me", None, [f"X: {'a' * 600_000}"])),
    "two lengths": (400, message("POST", POST, b"{}", ["Content-Length: 3"])),
}


@pytest.mark.parametrize(("status", "data"), PLACES.values(), ids=PLACES)
def test_what_is_not_there_is_told_in_json(cloud: SmallCloud, status: int, data: bytes) -> None:
    answer = exchange(cloud.socket, data)
    assert (answer.status, bool(answer.error()["error"])) == (status, True)


PARAMETERS = {
    **{f"/reservations/abcdef?wait={wait}": "wait must be 0 to 30 seconds" for wait in ("nan", "-1", "1e9", "inf")},
    "/reservations/abcdef?wait=soon": "wait",
    "/reservations/abcdef?version=-2": "version must be -1",
    "/reservations/abcdef?version=1.5": "version",
    f"/reservations/abcdef?version={'9' * 5000}": "version",
    "/reservations?all=perhaps": "all",
    "/reservations?status=sleeping": "no status 'sleeping'",
    "/reservations?page=ended.": "a page needs a limit",
    "/storage?keep=0": "keep must be at least 1",
    "/storage?keep=many": "keep",
}


@pytest.mark.parametrize(("query", "words"), PARAMETERS.items(), ids=[query[:40] for query in PARAMETERS])
def test_a_parameter_out_of_its_range_is_refused_by_name(cloud: SmallCloud, query: str, words: str) -> None:
    answer = exchange(cloud.socket, message("GET", f"/v1{query}"))
    assert answer.status == 400
    assert words in answer.error()["message"]


def test_what_comes_slowly_holds_nobody_up_and_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (request_body, peer_credentials):
        monkeypatch.setattr(module, "ARRIVAL_S", 4.0)
    whole = message("POST", POST, envelope(RESERVE))
    with small_cloud(tmp_path) as cloud:
        silent, head, body = (connected(cloud.socket) for _ in range(3))
        head.sendall(whole[:10])
        body.sendall(whole[:-10])
        many = [connected(cloud.socket) for _ in range(100)]
        for wire in many:
            wire.sendall(whole[:30])
        started = time.monotonic()
        get(cloud.socket, "/v1/me")
        assert time.monotonic() - started < 3
        for wire in (silent, head, body, *many):
            with wire:
                assert "within 4 s" in read_answer(wire).error()["message"]


def test_a_connection_may_be_used_again_and_again(cloud: SmallCloud) -> None:
    with connected(cloud.socket) as wire:
        for _ in range(3):
            for target, status in (("/v1/me", 200), ("/nothing", 404), ("/v1/reservations/abcdef", 404)):
                wire.sendall(f"GET {target} HTTP/1.1\r\nHost: o\r\n\r\n".encode())
                assert read_one(wire).status == status


def test_a_request_that_breaks_off_leaves_no_trace(cloud: SmallCloud) -> None:
    for length in range(10, len(message("POST", POST, envelope(RESERVE))), 40):
        with connected(cloud.socket) as wire:
            wire.sendall(message("POST", POST, envelope(RESERVE))[:length])
            wire.shutdown(socket.SHUT_RDWR)
    assert get(cloud.socket, "/v1/reservations")["reservations"] == []


def test_one_user_cannot_take_every_connection(tmp_path: Path) -> None:
    with small_cloud(tmp_path) as cloud:
        held = [connected(cloud.socket) for _ in range(peer_credentials.CONNECTIONS_PER_USER)]
        late = exchange(cloud.socket, message("GET", "/v1/me"))
        assert (late.status, late.error()["error"]) == (429, "LimitExceeded")
        held.pop().close()
        end = time.monotonic() + 10
        while exchange(cloud.socket, message("GET", "/v1/me")).status != 200:
            assert time.monotonic() < end
        for wire in held:
            wire.close()
