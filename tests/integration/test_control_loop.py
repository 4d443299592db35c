"""The loop that runs passes: at once when rung, by whoever has the lease, over faults of the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from tests.waiting import eventually
from tests.world import HOUR, Fuse, World

from odc.control.pass_loop import PassLoop
from odc.domain.errors import ProviderUnavailable
from odc.domain.problem_text import problem_texts
from odc.domain.reservation import State

pytestmark = pytest.mark.usefixtures("world_kind")

LONG_S = 20.0


@contextmanager
def running(world: World) -> Iterator[PassLoop]:
    loop = world.plane.pass_loop(holder="this")
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_a_request_is_seen_at_once() -> None:
    world = World()
    with running(world):
        begun = time.monotonic()
        record = world.ask()
        eventually("it is active", lambda: world.get(record).state is State.ACTIVE)
        # The idle pause between two passes is five seconds.
        assert time.monotonic() - begun < 4


def test_nothing_is_done_while_another_has_the_lease_and_all_of_it_afterwards() -> None:
    world = World()
    assert world.store.acquire_lease("passes", "another", world.clock.now(), timedelta(seconds=30))
    record = world.ask()
    with running(world):
        time.sleep(0.2)
        assert world.get(record).state is State.QUEUED
        world.clock.advance(timedelta(seconds=31))
        world.ports.wake.notify()
        eventually("it is active", lambda: world.get(record).state is State.ACTIVE)


def test_a_store_that_does_not_answer_once_costs_a_pause() -> None:
    world = World()

    def fail() -> None:
        raise ProviderUnavailable("the disk is full")

    fuse = Fuse(1, False, fail, ("store",), "observe")
    world.build(fuse)
    with running(world):
        eventually("a pass has ended", lambda: world.status.current.at is not None)
    assert fuse.blown


@pytest.mark.one_process("what a process knows of its own passes is not stored")
def test_while_the_store_does_not_answer_everyone_may_read_why() -> None:
    world = World()

    def fail() -> None:
        raise ProviderUnavailable("the records are damaged")

    world.build(Fuse(1, False, fail, ("store",), "observe"))
    with running(world):
        eventually(
            "it is told",
            lambda: (
                problem_texts(world.status.current.problems) == ("the cloud's passes fail: the records are damaged",)
            ),
        )
        eventually("the problem is over", lambda: world.status.current.problems == ())


def test_the_end_of_a_reservation_needs_no_ring() -> None:
    world = World()
    record = world.reserve()
    with running(world):
        world.clock.advance(HOUR - timedelta(milliseconds=300))
        world.ports.wake.notify()
        time.sleep(0.05)
        world.clock.advance(timedelta(milliseconds=300))
        eventually("it ends", lambda: world.get(record).state in (State.ENDING, State.ENDED))
        # A list that lags by a pass still shows its box, which is looked at again after a while.
        world.clock.advance(world.policy.poll)
        eventually("it has ended", lambda: world.get(record).state is State.ENDED)
