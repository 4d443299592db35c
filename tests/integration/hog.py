"""Takes as many of one thing as it can, says how many and why no more, and keeps them until its input ends.

Runs in boxes and on the host, by their own Python: `python3 hog.py KIND [MOST]`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import socket
import sys
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
F_GETPIPE_SZ = 1032


def call(number: int, *arguments: object) -> int:
    """A system call of x86_64 by its number."""
    result: int = LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def pipe() -> object:
    """A pipe of the usual size."""
    ends = os.pipe()
    if fcntl.fcntl(ends[0], F_GETPIPE_SZ) < 65536:
        raise OSError(0, "only small pipes")
    return ends


def aio() -> object:
    """A ring of 1,024 events."""
    ring = ctypes.c_ulong(0)
    call(206, 1024, ctypes.byref(ring))
    return ring


def timer() -> object:
    """A timer that sends a signal."""
    made = ctypes.c_int(0)
    call(222, 1, None, ctypes.byref(made))
    return made


def queue() -> object:
    """A POSIX message queue of the usual size, whose name is free again."""
    name = f"hog-{os.getpid()}".encode()
    made = call(240, name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, None)
    call(241, name)
    return made


def passed() -> object:
    """A descriptor on its way through a Unix socket, which nobody receives."""
    if not pairs or pairs[-1][1] == MOST_OF_A_SOCKET:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ends[0].setblocking(False)
        pairs.append((ends, 0))
    ends, count = pairs.pop()
    try:
        socket.send_fds(ends[0], [b"x"], [ends[1].fileno()])
    finally:
        pairs.append((ends, count + 1))
    return ends


def orphan() -> object:
    """A connection that is closed while its peer takes no more, so that the kernel keeps what is not sent."""
    with socket.socket() as server, socket.socket() as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.connect(server.getsockname())
        peer = server.accept()[0]
        client.setblocking(False)
        try:
            while True:
                client.send(bytes(4096))
        except BlockingIOError:
            return peer


MOST_OF_A_SOCKET = 10
"""Messages that a datagram socket takes before they are read."""
pairs: list[tuple[tuple[socket.socket, socket.socket], int]] = []
KINDS: dict[str, Callable[[], object]] = {
    "inotify": lambda: call(294, 0),
    "pipe": pipe,
    "aio": aio,
    "timer": timer,
    "queue": queue,
    "terminal": os.openpty,
    "passed": passed,
    "orphan": orphan,
    "file": lambda: os.open("/dev/null", os.O_RDONLY),
}


def main(kind: str, most: int) -> None:
    """Take, say, and wait."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    held: list[object] = []
    why = "enough"
    try:
        while len(held) < most:
            held.append(KINDS[kind]())
    except OSError as error:
        why = error.strerror or str(error)
    print(len(held), why, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10**9)
