"""What clients ask of a cloud with a long queue: the same as in `bench.queue`, without HTTP.

Run as a process of its own, `python -m bench.questions FOLDER`, it prints its figures as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from bench.cloud import run
from bench.measuring import milliseconds
from bench.queue import LIVE, NODES, QUEUED, LongQueue
from bench.table import Row
from odc.adapters.sql.state_store import SqlStateStore
from odc.api import views
from odc.control.authorization import Authorizer
from odc.control.queries import Queries
from odc.control.status_records import StatusRecords
from odc.domain.access import Principal
from odc.domain.reservation import Reservation, State
from odc.entrypoints.bootstrap.run_cloud import prepare_interpreter

TURNS = 11
PAGE = 100
"""Reservations of a page that `gpu-dev list` asks for at once."""
OPERATOR = Principal(id="unix:0", user="root", admin=True)
BUDGET_MS = 20


def rows() -> list[Row]:
    """What everybody asks, and how much slower a process is that has read nothing before."""
    with tempfile.TemporaryDirectory(prefix="odc-bench-") as folder:
        seen = json.loads(run([sys.executable, "-m", "bench.questions", folder]))
    size = f"{LIVE:,} live and {QUEUED:,} queued on {NODES:,} nodes, over SQLite, without HTTP"
    notes = {
        name: f"{size}; in a process that has read nothing before: {cold:.0f} ms" for name, cold in seen["cold"].items()
    }
    return [
        Row("avail", "ms", seen["warm"]["avail"], BUDGET_MS, note=notes["avail"]),
        Row("show of a queued one", "ms", seen["warm"]["show"], BUDGET_MS, note=notes["show"]),
        Row(f"first {PAGE} of list --user all", "ms", seen["warm"]["list"], BUDGET_MS, note=notes["list"]),
    ]


class Questions:
    """The questions, to one process."""

    def __init__(self, queries: Queries, record: Reservation) -> None:
        """Store the arguments.

        Args:
            queries: of the process.
            record: a queued reservation.
        """
        self._queries = queries
        self._record = record
        self._owner = Principal(id=record.owner, user=record.user)

    def avail(self) -> bytes:
        """`gpu-dev avail`."""
        return msgspec.json.encode(views.availability_view(self._queries.availability(), self._queries.now()))

    def show(self) -> bytes:
        """`gpu-dev show NAME`."""
        detail = self._queries.find(self._owner, self._record.name)
        return msgspec.json.encode(views.reservation_view(detail, self._owner, self._queries.status))

    def list(self) -> bytes:
        """`gpu-dev list --user all`, the first page, as an operator."""
        page = self._queries.reservation_page(OPERATOR, "all", False, frozenset(), "", PAGE)
        status = self._queries.status
        return msgspec.json.encode([views.reservation_view(detail, OPERATOR, status) for detail in page.items])


def main(folder: Path) -> None:
    """Measure and print."""
    prepare_interpreter()
    queue = LongQueue(folder)
    plane = queue.daemon.plane
    waiting = [r for r in queue.daemon.store.observe().reservations if r.state is State.QUEUED]
    record = waiting[len(waiting) // 2]
    warm = Questions(plane.queries, record)

    def cold() -> Questions:
        store = SqlStateStore(f"sqlite:///{folder}/odc.db")
        ports = replace(plane.ports, store=store, documents=store, history=store)
        return Questions(Queries(ports, plane.policy, StatusRecords(ports), Authorizer(store, store)), record)

    asked: dict[str, Callable[[Questions], bytes]] = {
        "avail": Questions.avail,
        "show": Questions.show,
        "list": Questions.list,
    }
    figures = {
        "warm": {name: _median(partial(ask, warm)) for name, ask in asked.items()},
        "cold": {name: _median_of(cold, ask) for name, ask in asked.items()},
    }
    print(json.dumps(figures))
    queue.daemon.runner.close()
    queue.daemon.store.close()


def _median(ask: Callable[[], object]) -> float:
    ask()
    return statistics.median(milliseconds(ask) for _ in range(TURNS))


def _median_of(process: Callable[[], Questions], ask: Callable[[Questions], bytes]) -> float:
    taken = []
    for _ in range(3):
        other = process()
        taken.append(milliseconds(partial(ask, other)))
    return statistics.median(taken)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
