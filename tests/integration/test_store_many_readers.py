"""As many readers at once as the API has threads: none waits for a connection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from odc.adapters.sql.state_store import SqlStateStore
from odc.api.threads import TOTAL_THREADS

TASKS = 32
"""At once, in the daemon."""
TOGETHER_S = 20


def test_every_thread_of_the_api_and_of_tasks_reads_at_the_same_time(tmp_path: Path) -> None:
    store = SqlStateStore(f"sqlite:///{tmp_path / 'odc.db'}")
    count = TOTAL_THREADS + TASKS
    everyone = threading.Barrier(count, timeout=TOGETHER_S)

    def wait_for_the_others(_connection: sa.Connection) -> None:
        everyone.wait()

    sa.event.listen(sa.Engine, "begin", wait_for_the_others)
    try:
        with ThreadPoolExecutor(count) as threads:
            answers = list(threads.map(lambda _: store.observe().reservations, range(count)))
    finally:
        sa.event.remove(sa.Engine, "begin", wait_for_the_others)
        store.close()
    assert answers == [()] * count
