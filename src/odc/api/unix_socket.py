"""The API on a unix socket; `peer_credentials.py` identifies the callers."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import uvicorn

from odc.api.malformed import WellFormed
from odc.api.peer_credentials import ConnectionLimits, Recognize, peer_protocol, recognizer
from odc.api.rates import RateLimiter
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest, ProviderRefused

log = logging.getLogger(__name__)

__all__ = ["UnixServer", "is_served", "recognizer"]

START_LIMIT_S = 20.0
MAX_OPEN_FILES = 65536


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


def allow_many_files() -> None:
    """Every connection is a file: as many as this process may have at all, not as few as are usual for a shell."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class UnixServer:
    """Serves an application on a unix socket, in a thread of its own."""

    def __init__(self, app: Any, path: Path, recognize: Recognize) -> None:
        """Prepare to serve; the socket is not opened yet.

        Args:
            app: the ASGI application; its `state.wake` is closed first, so that no request waits when it stops.
            path: the socket; every user of the machine may connect.
            recognize: makes a principal of the peer's uid.
        """
        self._app = app
        self._path = path
        config = uvicorn.Config(
            WellFormed(RateLimiter(app)),
            http=peer_protocol(ConnectionLimits(recognize)),
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            ws="none",
            loop="asyncio",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._bound: os.stat_result | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Listen, and return when requests are taken.

        Raises:
            ProviderRefused: another server has the socket, or this one does not start.
        """
        if len(str(self._path)) > 100:
            raise InvalidRequest(f"the socket's path is too long for a unix socket: {self._path}")
        allow_many_files()
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
                raise ProviderRefused(f"a cloud is up on {self._path} already", ("stop it", odc("down")))
            if not stat.S_ISSOCK(self._path.stat().st_mode):
                raise ProviderRefused(f"{self._path} exists and is not a socket")
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        self._path.chmod(0o666)
        listener.listen(512)
        self._bound = self._path.stat()
        return listener

    def restore(self) -> bool:
        """Listen again if the socket's file was deleted or replaced, as by a clean-up of `/run`. Waiting requests are
        not affected.

        Returns:
            Whether it had to.
        """
        loop = self._loop
        if loop is None or loop.is_closed() or self._server.should_exit or self._is_there():
            return False
        try:
            listener = self._bind()
        except (OSError, ProviderRefused) as error:
            log.warning("the socket cannot be made again", extra={"socket": str(self._path), "reason": str(error)})
            return False
        asyncio.run_coroutine_threadsafe(self._listen(listener), loop).result(START_LIMIT_S)
        log.warning("the socket was gone and was made again", extra={"socket": str(self._path)})
        return True

    def _is_there(self) -> bool:
        try:
            return self._bound is not None and os.path.samestat(self._path.stat(), self._bound)
        except OSError:
            return False

    async def _listen(self, listener: socket.socket) -> None:
        """Accept connections there too, with the server's own protocol."""
        config = self._server.config

        def protocol() -> asyncio.Protocol:
            return config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self._server.server_state, app_state=self._server.lifespan.state
            )

        server = await asyncio.get_running_loop().create_server(protocol, sock=listener)
        self._server.servers.append(server)

    def stop(self) -> None:
        """End all long polls, finish the requests in progress, and stop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._app.state.wake.close(), loop)
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
        self._path.unlink(missing_ok=True)
