"""Waiting for a change without holding a thread: `?wait=` sleeps on the event loop until the bell rings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar.types import Receive

Subscribe = Callable[[Callable[[], None]], Callable[[], None]]


class Bell:
    """The process's bell, as the event loop hears it. All waiters share one future, renewed at each ring."""

    def __init__(self, subscribe: Subscribe) -> None:
        self._subscribe = subscribe
        self._unsubscribe: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Event = asyncio.Event()
        self._closed = False

    async def open(self) -> None:
        """Begin to listen; called on the loop that waits."""
        self._loop = asyncio.get_running_loop()
        self._unsubscribe = self._subscribe(self._heard)

    async def close(self) -> None:
        """Stop listening and release every waiter."""
        self._closed = True
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._wake_all()

    def _heard(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    @property
    def closed(self) -> bool:
        """Whether the server is stopping: nobody should wait any more."""
        return self._closed

    def next_ring(self) -> asyncio.Event:
        """What the next ring sets. Take it before looking, so that no ring is missed between looking and waiting."""
        return self._next

    async def wait(self, ring: asyncio.Event, timeout_s: float, gone: asyncio.Future[None]) -> None:
        """Return when the ring has come, when the time is over, or when the client has gone."""
        rung: asyncio.Future[bool] = asyncio.ensure_future(ring.wait())
        either: set[asyncio.Future[Any]] = {rung, gone}
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rung.cancel()


@asynccontextmanager
async def leaving(receive: Receive) -> AsyncIterator[asyncio.Future[None]]:
    """What is done as soon as the client of this request has gone: nobody waits for one that hears no answer.

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
