"""Which requests wake when something changes."""

from __future__ import annotations

import asyncio

from odc.adapters.system.wake import LocalWake
from odc.api.long_poll import WakeListener, changed_or_over


async def _listening(wake: LocalWake) -> WakeListener:
    listener = WakeListener(wake)
    await listener.open()
    return listener


async def _soon() -> None:
    """Let what was called from other threads run."""
    for _ in range(3):
        await asyncio.sleep(0)


def test_of_a_hundred_watchers_only_those_of_what_changed_wake() -> None:
    async def run() -> None:
        wake = LocalWake()
        listener = await _listening(wake)
        watches = [listener.watch(str(number)) for number in range(100)]
        watchers = [watch.__enter__() for watch in watches]
        wake.notify(["7", "unknown"])
        wake.notify()
        await _soon()
        assert [number for number, watcher in enumerate(watchers) if watcher.is_set()] == [7]
        await listener.close()
        assert all(watcher.is_set() for watcher in watchers), "a server that stops releases every request"
        for watch in watches:
            watch.__exit__(None, None, None)

    asyncio.run(run())


def test_two_watchers_of_one_reservation_wake_and_the_end_of_one_leaves_the_other() -> None:
    async def run() -> None:
        wake = LocalWake()
        listener = await _listening(wake)
        with listener.watch("a") as first:
            with listener.watch("a") as second:
                wake.notify(["a"])
                await _soon()
                assert first.is_set()
                assert second.is_set()
            first.clear()
            wake.notify(["a"])
            await _soon()
            assert first.is_set()
        wake.notify(["a"])
        await listener.close()

    asyncio.run(run())


def test_waiting_ends_with_a_change_the_time_or_the_client() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        nobody, gone = loop.create_future(), loop.create_future()
        watcher = asyncio.Event()
        await changed_or_over(watcher, 0.001, nobody)
        watcher.set()
        await changed_or_over(watcher, 60, nobody)
        watcher.clear()
        gone.set_result(None)
        await changed_or_over(watcher, 60, gone)
        assert not watcher.is_set()

    asyncio.run(run())
