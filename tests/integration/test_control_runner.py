"""Tasks beside the passes: one at a time for each key, every outcome once, no bug stops the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from odc.control.task_runner import InlineRunner, Outcome, TaskId, ThreadRunner
from odc.domain.errors import ProviderRefused, ProviderUnavailable

TASK = TaskId("prepare", 1)
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
    runner.start("r", TASK, lambda: 7)
    rings.wait()
    assert runner.collect() == {"r": Outcome(task=TASK, value=7)}
    assert runner.collect() == {}
    assert runner.busy() == frozenset()


def test_of_one_key_one_task_runs_at_a_time_and_another_key_runs_beside_it(runner: ThreadRunner, rings: Rings) -> None:
    go = threading.Event()
    runner.start("r", TASK, lambda: go.wait(LONG_S))
    runner.start("r", TaskId("stop", 1), lambda: raising(AssertionError("two at once")))
    runner.start("other", TASK, lambda: "done")
    rings.wait()
    assert runner.busy() == {"r"}
    assert runner.collect() == {"other": Outcome(task=TASK, value="done")}
    go.set()
    rings.wait()
    assert runner.collect() == {"r": Outcome(task=TASK, value=True)}


def test_a_task_is_always_seen_as_busy_or_as_an_outcome(runner: ThreadRunner) -> None:
    """As passes ask: first who is busy, then what came out."""
    for number in range(50):
        runner.start("r", TaskId("prepare", number), lambda: None)
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
    runner.start("r", TASK, lambda: raising(error))
    rings.wait()
    assert runner.collect()["r"].error is error


def test_a_bug_in_a_task_is_a_passing_fault_of_its_reservation(
    runner: ThreadRunner, rings: Rings, caplog: pytest.LogCaptureFixture
) -> None:
    runner.start("r", TASK, lambda: raising(KeyError("gpu-9")))
    rings.wait()
    error = runner.collect()["r"].error
    assert isinstance(error, ProviderUnavailable)
    assert error.message == "unexpected: KeyError: 'gpu-9'"
    assert "task failed unexpectedly" in caplog.text


def test_the_inline_runner_has_run_a_task_when_it_says_that_it_is_started() -> None:
    runner, done = InlineRunner(), []
    runner.start("r", TASK, lambda: done.append(1))
    assert done == [1]
    assert runner.busy() == frozenset()
    assert runner.collect() == {"r": Outcome(task=TASK)}
    assert runner.collect() == {}
