"""Whether a box answers: told from a port that is closed, and from one that is held but silent."""

from __future__ import annotations

import socket
import threading

import pytest

from odc.cli.ssh_probe import answers


def at(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()
    return host, port


@pytest.mark.parametrize(("greeting", "expected"), [(b"SSH-2.0-OpenSSH\r\n", True), (b"HTTP/1.1 400\r\n", False)])
def test_only_a_greeting_of_sshd_counts(greeting: bytes, expected: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(greeting)
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        assert answers(*at(listener), 30) is expected
        thread.join(30)


def test_a_held_but_silent_port_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not answers(*at(listener), 0.2)


def test_a_closed_port_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = at(listener)
    assert not answers(*closed, 5)
