"""The contract of the wake, held by every adapter; and its listeners."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from odc.adapters.system.wake import LocalWake

SOON = timedelta(seconds=0.02)
LONG = timedelta(seconds=20)


@pytest.fixture
def wake() -> LocalWake:
    return LocalWake()


def test_nobody_rings_and_the_time_is_over(wake: LocalWake) -> None:
    assert wake.wait(SOON) is False
    assert wake.wait(timedelta()) is False
    assert wake.wait(timedelta(seconds=-5)) is False


def test_a_ring_before_the_wait_is_not_lost_and_counts_once(wake: LocalWake) -> None:
    for _ in range(3):
        wake.notify()
    assert wake.wait(LONG) is True
    assert wake.wait(SOON) is False


def test_a_ring_ends_a_wait_at_once(wake: LocalWake) -> None:
    ringer = threading.Timer(0.05, wake.notify)
    ringer.start()
    begun = time.monotonic()
    assert wake.wait(LONG) is True
    assert time.monotonic() - begun < 10
    ringer.join()


def test_rings_of_many_threads_are_never_lost(wake: LocalWake) -> None:
    pending: list[int] = []

    def work() -> None:
        pending.append(1)
        wake.notify()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    seen = 0
    deadline = time.monotonic() + 10
    while seen < 20 and time.monotonic() < deadline:
        assert wake.wait(LONG) is True
        seen = len(pending)
    for thread in threads:
        thread.join()
    assert seen == 20


def test_every_listener_hears_every_ring_until_it_ends_that(wake: LocalWake) -> None:
    heard: list[str] = []
    end_a = wake.subscribe(lambda changed: heard.append("a"))
    wake.subscribe(lambda changed: heard.append("b"))
    wake.notify(["a"])
    end_a()
    end_a()
    wake.notify(["a"])
    assert heard == ["a", "b", "b"]
    assert wake.wait(LONG) is True


def test_a_listener_may_subscribe_and_end_others_while_it_is_called(wake: LocalWake) -> None:
    heard: list[int] = []
    ends: list[Callable[[], None]] = []

    def listener(changed: frozenset[str]) -> None:
        heard.append(1)
        ends[0]()
        wake.subscribe(lambda changed: heard.append(2))

    ends.append(wake.subscribe(listener))
    wake.notify(["a"])
    wake.notify(["a"])
    assert heard == [1, 2]


def test_a_listener_that_fails_keeps_nobody_from_hearing(wake: LocalWake) -> None:
    heard: list[int] = []

    def broken(changed: frozenset[str]) -> None:
        raise RuntimeError("the event loop is closed")

    wake.subscribe(broken)
    wake.subscribe(lambda changed: heard.append(1))
    wake.notify(["a"])
    assert heard == [1]
    assert wake.wait(LONG) is True


def test_a_listener_learns_what_changed_and_is_not_called_when_nothing_did(wake: LocalWake) -> None:
    heard: list[frozenset[str]] = []
    wake.subscribe(heard.append)
    wake.notify(["one", "two"])
    wake.notify()
    assert heard == [frozenset({"one", "two"})]
    assert wake.wait(LONG) is True
