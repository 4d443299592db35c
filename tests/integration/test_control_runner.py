"""Tasks next to the passes: one at a time for each key, every outcome once, no bug stops the others.

About the runners alone, which have no world and so no cold one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.waiting import eventually

from odc.adapters.system.thread_runner import Patience, ThreadRunner
from odc.control.task_runner import Done, InlineRunner, NotYet, Outcome, TaskId, once
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.domain.reservation import UnderWay

TASK = TaskId("prepare", 1)
STILL = NotYet(UnderWay(name="ssh", detail="no answer", since=datetime(2026, 3, 2, tzinfo=UTC)))
LONG_S = 20.0


class Rings:
    """Counts rings, and waits for them."""

    def __init__(self) -> None:
        self._wakes = threading.Semaphore(0)

    def __call__(self) -> None:
        self._wakes.release()

    def wait(self) -> None:
        assert self._wakes.acquire(timeout=LONG_S)


@pytest.fixture
def rings() -> Rings:
    return Rings()


@pytest.fixture
def runner(rings: Rings) -> Iterator[ThreadRunner]:
    found = ThreadRunner(rings, threads=4)
    yield found
    found.close()


def raising(error: Exception) -> object:
    raise error


def test_an_outcome_is_handed_out_once_and_the_end_rings(runner: ThreadRunner, rings: Rings) -> None:
    runner.start("r", TASK, once(lambda: 7))
    rings.wait()
    assert runner.collect() == {"r": Outcome(task=TASK, value=7)}
    assert runner.collect() == {}
    assert runner.busy() == frozenset()


def test_of_one_key_one_task_runs_at_a_time_and_another_key_runs_beside_it(runner: ThreadRunner, rings: Rings) -> None:
    go = threading.Event()
    runner.start("r", TASK, once(lambda: go.wait(LONG_S)))
    runner.start("r", TaskId("stop", 1), once(lambda: raising(AssertionError("two at once"))))
    runner.start("other", TASK, once(lambda: "done"))
    rings.wait()
    assert runner.busy() == {"r"}
    assert runner.collect() == {"other": Outcome(task=TASK, value="done")}
    go.set()
    rings.wait()
    assert runner.collect() == {"r": Outcome(task=TASK, value=True)}


def test_a_task_is_always_seen_as_busy_or_as_an_outcome(runner: ThreadRunner) -> None:
    """As passes ask: first who is busy, then what came out."""
    for number in range(50):
        runner.start("r", TaskId("prepare", number), once(lambda: None))
        deadline = time.monotonic() + LONG_S
        while True:
            busy, outcomes = runner.busy(), runner.collect()
            assert busy or outcomes
            if outcomes:
                break
            assert time.monotonic() < deadline
        while runner.busy():
            assert time.monotonic() < deadline


@pytest.mark.parametrize("error", [ProviderRefused("no such image"), ProviderUnavailable("not now")], ids=str)
def test_a_failure_is_an_outcome(runner: ThreadRunner, rings: Rings, error: Exception) -> None:
    runner.start("r", TASK, once(lambda: raising(error)))
    rings.wait()
    assert runner.collect()["r"].error is error


def test_a_bug_in_a_task_is_a_passing_fault_of_its_reservation(
    runner: ThreadRunner, rings: Rings, caplog: pytest.LogCaptureFixture
) -> None:
    runner.start("r", TASK, once(lambda: raising(KeyError("gpu-9"))))
    rings.wait()
    error = runner.collect()["r"].error
    assert isinstance(error, ProviderUnavailable)
    assert error.message == "unexpected: KeyError: 'gpu-9'"
    assert "task failed unexpectedly" in caplog.text


def test_the_inline_runner_has_run_a_task_when_it_says_that_it_is_started() -> None:
    runner, done = InlineRunner(), []
    runner.start("r", TASK, once(lambda: done.append(1)))
    assert done == [1]
    assert runner.busy() == frozenset()
    assert runner.collect() == {"r": Outcome(task=TASK)}
    assert runner.collect() == {}


class Countdown:
    """A task that is not through until it was called often enough."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> Done | NotYet:
        self.left -= 1
        return Done("through") if self.left <= 0 else STILL


def test_a_task_that_is_not_through_is_called_again_and_its_end_is_the_outcome(
    runner: ThreadRunner, rings: Rings
) -> None:
    runner.start("r", TASK, Countdown(5))
    assert runner.busy() == {"r"}
    rings.wait()
    assert runner.collect() == {"r": Outcome(task=TASK, value="through")}
    assert runner.busy() == frozenset()


def test_any_number_of_tasks_may_wait_without_a_thread_for_each(rings: Rings) -> None:
    runner = ThreadRunner(rings, threads=1, patience=Patience(first_s=0.2, longest_s=0.2))
    tasks = {f"r{number}": Countdown(3) for number in range(500)}
    try:
        for key, task in tasks.items():
            runner.start(key, TASK, task)
        runner.start("other", TASK, once(lambda: "at once"))
        rings.wait()
        assert runner.collect() == {"other": Outcome(task=TASK, value="at once")}
        for _ in tasks:
            rings.wait()
        assert {outcome.value for outcome in runner.collect().values()} == {"through"}
    finally:
        runner.close()


def test_a_runner_whose_patience_is_over_hands_out_what_the_task_waits_for(rings: Rings) -> None:
    runner = ThreadRunner(rings, threads=1, patience=Patience(total_s=0.05))
    try:
        runner.start("r", TASK, Countdown(10**6))
        rings.wait()
        assert runner.collect() == {"r": Outcome(task=TASK, not_yet=STILL)}
        assert runner.busy() == frozenset()
    finally:
        runner.close()


def test_a_closed_runner_calls_no_task_any_more(runner: ThreadRunner) -> None:
    task = Countdown(10**6)
    runner.start("r", TASK, task)
    eventually("it is called again", lambda: task.left < 10**6 - 2)
    runner.close()
    runner.start("other", TASK, task)
    eventually("it rests", lambda: settled(task))


def settled(task: Countdown) -> bool:
    """Whether the task is not called for longer than any pause."""
    before = task.left
    time.sleep(0.5)
    return task.left == before


def test_the_inline_runner_has_no_patience() -> None:
    runner, task = InlineRunner(), Countdown(2)
    runner.start("r", TASK, task)
    assert runner.collect() == {"r": Outcome(task=TASK, not_yet=STILL)}
    runner.start("r", TASK, task)
    assert runner.collect() == {"r": Outcome(task=TASK, value="through")}


def test_a_join_ends_with_an_outcome_or_when_nothing_runs_or_at_its_limit(runner: ThreadRunner) -> None:
    go = threading.Event()
    assert not runner.join(timedelta(seconds=LONG_S))
    runner.start("r", TASK, once(lambda: go.wait(LONG_S)))
    assert not runner.join(timedelta(seconds=0.05))
    go.set()
    assert runner.join(timedelta(seconds=LONG_S))
    assert runner.collect() == {"r": Outcome(task=TASK, value=True)}
