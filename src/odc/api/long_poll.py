"""Waiting for a change without holding a thread: `?wait=` sleeps on the event loop until the next wake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar.types import Receive

Subscribe = Callable[[Callable[[], None]], Callable[[], None]]


class WakeListener:
    """Brings wakes from any thread to the event loop. All waiters share one event, which each wake replaces."""

    def __init__(self, subscribe: Subscribe) -> None:
        self._subscribe = subscribe
        self._unsubscribe: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Event = asyncio.Event()
        self._closed = False

    async def open(self) -> None:
        """Start listening; called on the loop that waits."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._subscribe(self._woken)

    async def close(self) -> None:
        """Stop listening and release every waiter."""
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._wake_all()

    def _woken(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping, so that requests must not wait any more."""
        return self._closed

    def next_wake(self) -> asyncio.Event:
        """Return the event that the next wake sets. Call this before reading, so that no wake is missed before
        waiting.
        """
        return self._next

    async def wait(self, wake: asyncio.Event, timeout_s: float, gone: asyncio.Future[None]) -> None:
        """Return after the wake, after the timeout, or when the client has disconnected."""
        woken: asyncio.Future[bool] = asyncio.ensure_future(wake.wait())
        either: set[asyncio.Future[Any]] = {woken, gone}
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()


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
