"""Whatever bytes come, the answer is short JSON or nothing, the log has one line, and the others are served."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.small_cloud import SmallCloud, small_cloud
from tests.wire import Answer, connected, envelope, exchange, get, message, read_one

POST = "/v1/requests"
RESERVE = {"kind": "reserve", "gpu_type": "h100", "gpus": 1, "hours": 1.0}
ASK = f"POST {POST} HTTP/1.1\r\nHost: odc\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCloud]:
    with small_cloud(tmp_path_factory.mktemp("malformed")) as made:
        yield made


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing that a client sends is worth a traceback or a warning."""
    caplog.set_level(logging.INFO)
    yield caplog
    assert [record for record in caplog.records if record.exc_info or record.levelno > logging.INFO] == []


def told(log: pytest.LogCaptureFixture) -> list[str]:
    """The log lines of refused requests."""
    return [str(vars(record)["reason"]) for record in log.records if record.getMessage() == "refused"]


def test_the_log_says_who_was_refused(cloud: SmallCloud, log: pytest.LogCaptureFixture) -> None:
    for path, host in (("/v1/reservations/none-such", "o"), ("/v1/me", "a b")):
        exchange(cloud.socket, head(f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"))
    assert [vars(record)["uid"] for record in log.records if record.getMessage() == "refused"] == [str(os.getuid())] * 2


def head(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@pytest.mark.parametrize(("path", "status"), [("/x", 404), ("/v1/me", 200), ("/v1/reservations/none-such", 404)])
def test_a_request_of_http_1_0_needs_no_host(cloud: SmallCloud, path: str, status: int) -> None:
    assert exchange(cloud.socket, head(f"GET {path} HTTP/1.0")).status == status


@pytest.mark.parametrize("path", ["/x", "/v1/me", "/v1/reservations/none-such"])
@pytest.mark.parametrize(
    "host", ["", "odc", "a.b:80", "[::1]:80", ":80", "a_b", "127.0.0.1", "a:99999", "%00", "..", ":"]
)
def test_any_host_name_is_served(cloud: SmallCloud, host: str, path: str) -> None:
    answer = exchange(cloud.socket, head(f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"))
    assert answer.status == (200 if path == "/v1/me" else 404)


HOSTS = ["[", "[::1", "[::1]:x", "[v1.x]", "a:b:c", "a:99999999", "a:-1", "a b", "@", "u:p@a", "//", "a/b", "http://x",
         "?", "#", "a\\b", "<", "\xff", "xn--\x80", "a,b c"]  # fmt: skip


@pytest.mark.parametrize("path", ["/x", "/v1/me", "/v1/reservations/none-such"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_none_is_refused(cloud: SmallCloud, log: pytest.LogCaptureFixture, host: str, path: str) -> None:
    answer = exchange(cloud.socket, head(f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"))
    assert (answer.status, answer.error()["error"]) == (400, "InvalidRequest")
    assert told(log) == ["the Host header is not a host name"]


REFUSED = {
    "no host": head("GET /v1/me HTTP/1.1"),
    "two hosts": head("GET /v1/me HTTP/1.1", "Host: a", "Host: b"),
    "two hosts in 1.0": head("GET /v1/me HTTP/1.0", "Host: a", "Host: b"),
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": head("GET /v1/me HTTP/0.9", "Host: o"),
    "HTTP/3": head("GET /v1/me HTTP/3", "Host: o"),
    "no version": head("GET /v1/me", "Host: o"),
    "another protocol": head("GET /v1/me ICE/1.1", "Host: o"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00" + b"A" * 50 + b"\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "NUL in a method": head("G\0T /v1/me HTTP/1.1", "Host: o"),
    "NUL in a header": head("GET /v1/me HTTP/1.1", "Host: o", "X: a\0b"),
    "a path that is not ASCII": head("GET /\xff HTTP/1.1", "Host: o"),
    "a query that is not ASCII": head("GET /v1/me?\xff HTTP/1.1", "Host: o"),
    "a control character in a path": head("GET /v1/\x01 HTTP/1.1", "Host: o"),
    "a folded first header": head("GET /v1/me HTTP/1.1", " X: a", "Host: o"),
    "a header without a name": head("GET /v1/me HTTP/1.1", "Host: o", ": a"),
    "a space before the colon": head("GET /v1/me HTTP/1.1", "Host : o"),
    "200 kB of headers": head("GET /v1/me HTTP/1.1", "Host: o", *(f"X{n}: a" for n in range(20_000))),
    "a path of 200 kB": head(f"GET /{'a' * 200_000} HTTP/1.1", "Host: o"),
    "two transfer encodings": head(ASK + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    "an unknown transfer encoding": head(ASK + "Transfer-Encoding: xchunked"),
    "gzip and chunked": head(ASK + "Transfer-Encoding: gzip, chunked"),
    "a hidden transfer encoding": head(ASK + "Transfer-Encoding: \x0bchunked"),
    "a length below zero": head(ASK + "Content-Length: -1"),
    "a length with a sign": head(ASK + "Content-Length: +2"),
    "a length in hex": head(ASK + "Content-Length: 0x2"),
    "a length in other digits": head(ASK + "Content-Length: \xb2"),
    "two lengths": head(ASK + "Content-Length: 2\r\nContent-Length: 3"),
    "two lengths in one": head(ASK + "Content-Length: 2, 3"),
    "a length beyond any number": head(ASK + f"Content-Length: {'9' * 5000}"),
    "a chunk without a size": head(ASK + "Transfer-Encoding: chunked\r\n\r\nzz"),
    "a chunk below zero": head(ASK + "Transfer-Encoding: chunked\r\n\r\n-1"),
    "a chunk beyond any number": head(ASK + f"Transfer-Encoding: chunked\r\n\r\n{'f' * 21}"),
    "a chunk that is too long": head(ASK + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}X\r\n0"),
    "a trailer that is none": head(ASK + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\nBad"),
}  # fmt: skip


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_malformed_gets_a_short_answer_and_one_log_line(
    cloud: SmallCloud, log: pytest.LogCaptureFixture, data: bytes
) -> None:
    answer = exchange(cloud.socket, data)
    assert (answer.status, answer.error()["error"]) == (400, "InvalidRequest")
    assert len(answer.body) < 500
    assert len(told(log)) == 1


SMUGGLED = "0\r\n\r\nPOST /v1/requests HTTP/1.1\r\nHost: o\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "lengths",
    ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 90"],
)
def test_a_length_and_chunks_together_are_one_request(cloud: SmallCloud, lengths: str) -> None:
    with connected(cloud.socket) as wire:
        wire.sendall(f"{ASK}{lengths}\r\n\r\n{SMUGGLED}".encode())
        assert read_one(wire).status == 400
        assert wire.recv(1) == b""


TARGETS = {
    "absolute": "http://odc/v1/me",
    "absolute and odd": "http://[/v1/me",
    "absolute with a port that is none": "http://odc:99999999/x",
    "the asterisk": "*",
    "no slash": "v1/me",
    "an authority": "odc:443",
    "two slashes": "//[",
    "dots": "/v1/../v1/me",
    "half an escape": "/v1/reservations/%",
    "an escape that is none": "/v1/reservations/%zz",
    "NUL": "/v1/reservations/%00",
    "no UTF-8": "/v1/reservations/%c3%28",
    "a surrogate": "/v1/reservations/%ed%a0%80",
    "a direction mark": "/v1/reservations/%e2%80%ae",
    "a line break": "/v1/reservations?user=me%0d%0aX:1",
    "NUL in a query": "/v1/reservations?user=%00",
    "a query that is no UTF-8": "/v1/reservations?user=%ff&status=%fe",
    "five thousand parameters": "/v1/reservations?" + "&".join(f"a{n}=1" for n in range(5000)),
    "commas": "/v1/reservations?status=" + "," * 3000,
    "a parameter twice": "/v1/reservations?all=true&all=false",
    "a wait of 5000 digits": "/v1/reservations/abcd?wait=" + "9" * 5000,
    "a version of 5000 digits": "/v1/reservations/abcd?version=" + "9" * 5000,
    "a version beyond 64 bits": "/v1/reservations/abcd?version=" + "9" * 30,
    "a version in hex": "/v1/reservations/abcd?version=0x10",
    "a wait that is not a number": "/v1/reservations/abcd?wait=nan&version=-" + "9" * 30,
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "POST", "BREW", "get", "G" * 5000])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_odd_targets_and_methods_are_answered(cloud: SmallCloud, method: str, target: str) -> None:
    answer = exchange(cloud.socket, head(f"{method} {target} HTTP/1.1", "Host: odc", "Connection: close"))
    assert answer.status in (200, 204, 400, 404, 405)
    if method == "GET" and answer.status != 200:
        assert len(answer.error()["message"]) < 500


def served(cloud: SmallCloud, *headers: str) -> Answer:
    with connected(cloud.socket) as wire:
        wire.sendall(head("GET /v1/me HTTP/1.1", "Host: o", *headers))
        first = read_one(wire)
        wire.sendall(head("GET /x HTTP/1.1", "Host: o"))
        assert read_one(wire).status == 404
        return first


@pytest.mark.parametrize(
    "headers",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"),
        ("Connection: Upgrade", "Upgrade: \xff"),
        ("Accept: text/html;q=zz, \xff/*", "Cookie: \xff=;;=;a", "X-Forwarded-For: '", "X-Forwarded-Proto: \xff"),
        ("Range: bytes=0-,-1", "If-None-Match: *", "Expect: 200-ok", "X-HTTP-Method-Override: DELETE"),
    ],
    ids=["h2c", "websocket", "odd", "noise", "conditions"],
)
def test_upgrades_and_odd_headers_are_ignored(
    cloud: SmallCloud, log: pytest.LogCaptureFixture, headers: tuple[str, ...]
) -> None:
    assert served(cloud, *headers).status == 200
    assert told(log) == []


def test_a_client_that_waits_for_100_is_told_to_go_on(cloud: SmallCloud) -> None:
    with connected(cloud.socket) as wire:
        wire.sendall(head(ASK + "Expect: 100-continue\r\nContent-Length: 2"))
        assert wire.recv(65536).startswith(b"HTTP/1.1 100 ")
        wire.sendall(b"{}")
        assert read_one(wire).status == 400


def test_a_malformed_request_behind_good_ones_is_refused_alone(cloud: SmallCloud) -> None:
    good, bad = head("GET /v1/me HTTP/1.1", "Host: o"), head("GET /v1/me HTTP/1.1", "Host: [")
    answers = exchange(cloud.socket, good + good + bad + good)
    whole = answers.head.encode() + answers.body
    assert re.findall(rb"HTTP/1.1 (\d+) ", whole) == [b"200", b"200", b"400"]


def mutations(seed: int, count: int) -> Iterable[bytes]:
    """Good requests with some of their bytes changed, taken away, doubled, or put elsewhere."""
    chance = random.Random(seed)
    good = [
        message("POST", POST, envelope(RESERVE, f"{seed:032x}")),
        head("GET /v1/reservations?user=me&all=true&status=queued HTTP/1.1", "Host: odc:80", "Connection: close"),
        head(ASK + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0"),
        head("GET /v1/reservations/abcd?wait=0.1&version=1 HTTP/1.0", "Host: [::1]"),
    ]
    for _ in range(count):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(len(data))
            piece = bytes(data[place : place + chance.randint(1, 8)])
            noise = bytes(chance.choice(b"\r\n\0 :/%?[]@#0f\xff\x80-") for _ in range(chance.randint(0, 4)))
            data[place : place + chance.choice((0, 1, len(piece)))] = chance.choice((noise, piece * 2, b"\r\n"))
        yield bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_noise_on_the_wire_is_never_a_bug_and_holds_nobody_up(cloud: SmallCloud, seed: int) -> None:
    def send() -> None:
        for data in mutations(seed, 250):
            with connected(cloud.socket) as wire, contextlib.suppress(OSError):
                wire.sendall(data)
                # Nothing more will come, so that nobody waits for it.
                wire.shutdown(socket.SHUT_WR)
                answer = wire.recv(65536)
                assert not answer.startswith(b"HTTP/1.1 5")

    noise = threading.Thread(target=send)
    noise.start()
    while noise.is_alive():
        get(cloud.socket, "/v1/me")
    noise.join()


def test_what_is_repeated_of_a_request_is_short(cloud: SmallCloud, log: pytest.LogCaptureFixture) -> None:
    answer = exchange(cloud.socket, message("GET", "/v1/reservations/" + "a" * 60_000))
    assert answer.status == 404
    assert max(len(str(vars(record).get("path", ""))) for record in log.records) <= 80
    assert len(exchange(cloud.socket, message("GET", "/" + "a" * 60_000)).body) < 500


def test_a_failure_before_the_framework_is_json_too(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("a bug")

    from odc.api.malformed import WellFormed

    sent: list[dict[str, object]] = []

    async def send(part: dict[str, object]) -> None:
        sent.append(part)

    import asyncio

    scope = {"type": "http", "http_version": "1.1", "headers": [], "path": "/x", "raw_path": b"/x", "query_string": b""}
    asyncio.run(WellFormed(broken)(scope, None, send))
    assert (sent[0]["status"], b"InvariantError" in bytes(sent[1]["body"])) == (500, True)  # type: ignore[call-overload]
    assert [record.exc_info is not None for record in log.records if record.getMessage() == "failed"] == [True]
    log.clear()
