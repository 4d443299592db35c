"""A small DNS server of the tests: it knows one name and refuses every other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def own_address() -> str:
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


@contextmanager
def serve_dns(listen: str, name: str, address: str, port: int = 53) -> Iterator[int]:
    """Answer at `listen` for `name` with `address`; the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served:
        served.bind((listen, port))
        served.settimeout(0.2)
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                try:
                    asked, client = served.recvfrom(512)
                except TimeoutError:
                    continue
                served.sendto(_answer(asked, name, address), client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield int(served.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def _answer(asked: bytes, name: str, address: str) -> bytes:
    """The answer to one question. Source: RFC 1035, section 4."""
    end = 12
    labels = []
    while asked[end]:
        labels.append(asked[end + 1 : end + 1 + asked[end]].decode())
        end += 1 + asked[end]
    question = asked[12 : end + 5]
    kind = int.from_bytes(asked[end + 1 : end + 3], "big")
    if ".".join(labels) != name:
        return asked[:2] + b"\x81\x85" + b"\x00\x01" + b"\x00\x00" * 3 + question
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + socket.inet_aton(address) if kind == 1 else b""
    return (
        asked[:2]
        + b"\x81\x80"
        + b"\x00\x01"
        + (b"\x00\x01" if record else b"\x00\x00")
        + b"\x00" * 4
        + question
        + record
    )
