"""How things are measured: several times, in turns, so that a busy moment of the machine falls on all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Work = Callable[[], object]


def milliseconds(work: Work) -> float:
    """How long it takes once."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def cpu_milliseconds(work: Work) -> float:
    """How much of the processor it takes once in this thread, without what it waits for."""
    start = time.thread_time()
    work()
    return 1000 * (time.thread_time() - start)


def in_turns(works: Mapping[str, Callable[[], float]], times: int) -> dict[str, float]:
    """The median figure of each, measured in turns after one turn that does not count.

    Args:
        works: name to what measures once.
        times: turns.
    """
    figures: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(times + 1):
        for name, measure in works.items():
            figure = measure()
            if turn:
                figures[name].append(figure)
    return {name: statistics.median(each) for name, each in figures.items()}


def memory_mb(pid: int | str = "self") -> dict[str, float]:
    """A process's memory in MB: `rss`, all that it holds; `pss`, with its part only of what it shares with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {"rss": fields["Rss"], "pss": fields["Pss"]}
