"""Processes of their own that write to one store at once, as daemons and commands do."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("spawn")
ANSWER_S = 60.0

Say = Callable[[Any], None]
Task = Callable[..., Any]
"""A function of a module: called in the writer's process with `say`, then the arguments."""


class Writer:
    """One process that does what it is told, one task after the other."""

    def __init__(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._task = 0

    def start(self, task: Task, *arguments: Any) -> None:
        """Begin a task; do not wait for it."""
        self._task += 1
        self._pipe.send((self._task, task, arguments))

    def heard(self, timeout_s: float = ANSWER_S) -> Any:
        """The next thing that the running task says."""
        kind, value = self._next(timeout_s)
        assert kind == "said", value
        return value

    def answer(self, timeout_s: float = ANSWER_S) -> Any:
        """What the task returned; what it said before is dropped."""
        while True:
            kind, value = self._next(timeout_s)
            assert kind != "raised", value
            if kind == "done":
                return value

    def _next(self, timeout_s: float) -> tuple[str, Any]:
        """The next word about the running task; words about one that a failed test left are dropped."""
        while True:
            assert self._pipe.poll(timeout_s), "the writer says nothing"
            task, kind, value = self._pipe.recv()
            if task == self._task:
                return kind, value

    def kill(self) -> list[Any]:
        """kill -9; what it had said by then and nobody had heard yet."""
        self._process.kill()
        self._process.join(10)
        said = []
        try:
            while self._pipe.poll(0):
                said.append(self._pipe.recv()[2])
        except (EOFError, OSError):
            pass
        return said

    def close(self) -> None:
        """End it, whatever it does."""
        self.kill()
        self._pipe.close()
        self._process.close()


def _serve(pipe: Connection) -> None:
    while True:
        try:
            number, task, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((number, "done", task(partial(_say, pipe, number), *arguments)))
        except Exception:
            pipe.send((number, "raised", traceback.format_exc()))


def _say(pipe: Connection, number: int, value: Any) -> None:
    pipe.send((number, "said", value))


@contextmanager
def writers(count: int) -> Iterator[tuple[Writer, ...]]:
    """So many of them, which end with the block."""
    made = tuple(Writer() for _ in range(count))
    try:
        yield made
    finally:
        for writer in made:
            writer.close()


def at_once(several: Sequence[Writer], task: Task, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Give each writer the task with its own arguments, and wait for all answers, in order."""
    for writer, own in zip(several, arguments, strict=True):
        writer.start(task, *own)
    return [writer.answer() for writer in several]


def dies_at(step: Callable[[], None]) -> int:
    """Run the step in a copy of this process that is expected to kill itself; the signal, or 0 if it did not."""
    child = os.fork()
    if child == 0:
        try:
            step()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
