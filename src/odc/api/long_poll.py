"""Waiting for a change without holding a thread: `?wait=` sleeps on the event loop until its reservation changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from litestar.types import Receive

from odc.ports.wake import Wake


class WakeListener:
    """Brings wakes from any thread to the event loop, and there to the requests that watch what has changed."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._unsubscribe: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._closed = False

    async def open(self) -> None:
        """Start listening; called on the loop that waits."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._wake.subscribe(self._notified)

    async def close(self) -> None:
        """Stop listening and release every watcher."""
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._release(frozenset(self._watchers))

    def _notified(self, changed: frozenset[str]) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._release, changed)

    def _release(self, changed: frozenset[str]) -> None:
        for reservation_id in changed:
            for watcher in self._watchers.get(reservation_id, ()):
                watcher.set()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping, so that requests must not wait any more."""
        return self._closed

    @contextmanager
    def watch(self, reservation_id: str) -> Iterator[asyncio.Event]:
        """An event that each change of the reservation sets, until the end of the block.

        Read the record after entering, and after each `clear`: so no change is missed between reading and waiting.
        """
        watcher = asyncio.Event()
        self._watchers.setdefault(reservation_id, set()).add(watcher)
        try:
            yield watcher
        finally:
            rest = self._watchers[reservation_id]
            rest.discard(watcher)
            if not rest:
                del self._watchers[reservation_id]


async def changed_or_over(watcher: asyncio.Event, timeout_s: float, gone: asyncio.Future[None]) -> None:
    """Return after a change, after the timeout, or when the client has disconnected."""
    changed: asyncio.Future[bool] = asyncio.ensure_future(watcher.wait())
    either: set[asyncio.Future[Any]] = {changed, gone}
    try:
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()


@asynccontextmanager
async def client_disconnected(receive: Receive) -> AsyncIterator[asyncio.Future[None]]:
    """A future that is done once the client of this request has disconnected, so that nothing waits for it any more.

    Args:
        receive: the connection's, of a request without a body.
    """

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(listen())
    try:
        yield gone
    finally:
        gone.cancel()
