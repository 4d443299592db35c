"""Adapters and a clock that several processes share: each call of an adapter is a connection to the test's process."""

from __future__ import annotations

import contextlib
import copyreg
import pickle
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from odc.adapters.system.wake import LocalWake
from odc.domain.errors import OdcError

SPEED = 100
"""How much faster than the machine's the shared clock is: the lease of passes lasts 0.3 s, five minutes last 3 s."""


def _reduced(mapping: MappingProxyType[Any, Any]) -> tuple[Any, ...]:
    return _read_only, (dict(mapping),)


def _read_only(mapping: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(mapping)


# In the specifications of boxes; pickle does not know them.
copyreg.pickle(MappingProxyType, _reduced)


class FastClock:
    """The clock of all processes; see `odc.ports.clock`."""

    def now(self) -> datetime:
        return datetime(2026, 3, 2, tzinfo=UTC) + self.since_boot()

    def since_boot(self) -> timedelta:
        return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME)) * SPEED

    def boot_id(self) -> str:
        return "fast"

    def pause(self, length: timedelta) -> None:
        time.sleep((length / SPEED).total_seconds())


class FastWake(LocalWake):
    """Pauses are measured by `FastClock`."""

    def wait(self, timeout: timedelta) -> bool:
        return super().wait(timeout / SPEED)


class RemoteCall(NamedTuple):
    """A call of an adapter.

    Attributes:
        pid: of the process that calls.
        port: the name of the adapter.
        method: its method.
        arguments: by position.
        options: by name.
    """

    pid: int
    port: str
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


Around = Callable[[RemoteCall, Callable[[], Any]], Any]
"""Is given each call and what carries it out; returns what the caller gets."""


class Remote:
    """An adapter of another process."""

    def __init__(self, path: Path, port: str, pid: int) -> None:
        self._path, self._port, self._pid = path, port, pid

    def __getattr__(self, method: str) -> Any:
        return partial(self._call, method)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._path))
            with connection.makefile("rwb") as stream:
                pickle.dump(RemoteCall(self._pid, self._port, method, arguments, options), stream)
                stream.flush()
                value = pickle.load(stream)
        if isinstance(value, OdcError):
            raise value
        return value


class _Handler(socketserver.StreamRequestHandler):
    """Answers one call. A caller that was killed gets no answer."""

    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            call: RemoteCall = pickle.load(self.rfile)
            pickle.dump(self._value(call), self.wfile)

    def _value(self, call: RemoteCall) -> Any:
        method = getattr(self.server.adapters[call.port], call.method)
        try:
            return self.server.around(call, lambda: method(*call.arguments, **call.options))
        except OdcError as error:
            return error


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, adapters: Mapping[str, Any], around: Around) -> None:
        super().__init__(str(path), _Handler)
        self.adapters, self.around = adapters, around


@contextmanager
def shared(path: Path, adapters: Mapping[str, Any], around: Around) -> Iterator[None]:
    """Let other processes use the adapters, by `Remote`, while the block lasts.

    Args:
        path: of the socket.
        adapters: by the name of their port.
        around: carries out each call, in a thread of its own.
    """
    with _Server(path, adapters, around) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
