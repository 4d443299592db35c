"""The API on a unix socket. Who calls is what the kernel says of the peer (SO_PEERCRED), and nothing else."""

from __future__ import annotations

import asyncio
import pwd
import socket
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from odc.domain.access import Principal
from odc.domain.errors import InvalidRequest, ProviderRefused

_CREDENTIALS = struct.Struct("3i")
START_LIMIT_S = 20.0
Recognize = Callable[[int], Principal]


def recognizer(admins: frozenset[str]) -> Recognize:
    """What makes a principal of a uid: root and the named users are operators."""

    def recognize(uid: int) -> Principal:
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = f"uid{uid}"
        return Principal(id=f"unix:{uid}", user=user, admin=uid == 0 or user in admins)

    return recognize


def _protocol(recognize: Recognize) -> type[H11Protocol]:
    class PeerProtocol(H11Protocol):
        """HTTP on a unix socket whose peer the kernel has named."""

        def connection_made(self, transport: Any) -> None:
            """Note who is at the other end, once for the connection."""
            super().connection_made(transport)
            peer: socket.socket = transport.get_extra_info("socket")
            raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            _, uid, _ = _CREDENTIALS.unpack(raw)
            self.app_state = {**self.app_state, "principal": recognize(uid)}

    return PeerProtocol


def is_served(path: Path) -> bool:
    """Whether a server accepts connections on the socket."""
    probe = socket.socket(socket.AF_UNIX)
    probe.settimeout(2)
    try:
        probe.connect(str(path))
    except OSError:
        return False
    finally:
        probe.close()
    return True


class UnixServer:
    """Serves an application on a unix socket, in a thread of its own."""

    def __init__(self, app: Any, path: Path, recognize: Recognize) -> None:
        """Prepare to serve; nothing happens yet.

        Args:
            app: the ASGI application; its `state.bell` is closed first, so that nobody waits when it stops.
            path: the socket; every user of the machine may connect.
            recognize: makes a principal of the peer's uid.
        """
        self._app = app
        self._path = path
        config = uvicorn.Config(
            app,
            http=_protocol(recognize),
            lifespan="on",
            log_config=None,
            access_log=False,
            ws="none",
            loop="asyncio",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Listen, and return when requests are taken.

        Raises:
            ProviderRefused: another server has the socket, or this one does not start.
        """
        if len(str(self._path)) > 100:
            raise InvalidRequest(f"the socket's path is too long for a unix socket: {self._path}")
        listener = self._bind()
        started = threading.Event()

        def serve() -> None:
            async def main() -> None:
                self._loop = asyncio.get_running_loop()
                watcher = asyncio.create_task(self._announce(started))
                await self._server.serve(sockets=[listener])
                watcher.cancel()

            asyncio.run(main())
            started.set()

        self._thread = threading.Thread(target=serve, name="api", daemon=True)
        self._thread.start()
        started.wait(START_LIMIT_S)
        if not self._server.started:
            raise ProviderRefused(f"the API does not start on {self._path}; the log says why")

    async def _announce(self, started: threading.Event) -> None:
        while not self._server.started:
            await asyncio.sleep(0.005)
        started.set()

    def _bind(self) -> socket.socket:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if self._path.exists():
            if is_served(self._path):
                raise ProviderRefused(f"a cloud is up on {self._path} already", ("stop it", "odc down"))
            if not stat.S_ISSOCK(self._path.stat().st_mode):
                raise ProviderRefused(f"{self._path} is there and is no socket")
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        self._path.chmod(0o666)
        listener.listen(512)
        return listener

    def stop(self) -> None:
        """Release those who wait, answer what is under way, and end."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._app.state.bell.close(), loop)
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
        self._path.unlink(missing_ok=True)
