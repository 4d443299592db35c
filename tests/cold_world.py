"""What a cold world adds to `tests.world`: nothing of a process survives, lists are short pages, and they lag."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import timedelta
from inspect import signature
from typing import Any

from odc.adapters.memory.state_store import MemoryStateStore
from odc.domain.box import BoxSeen
from odc.domain.disk import Disk
from odc.domain.paging import Page
from odc.domain.records import Change
from odc.domain.reservation import Reservation
from odc.domain.user import User
from odc.ports.history import History
from odc.ports.state_store import StateStore

SHORT_PAGE = 2
"""Items of a page in a cold world, if nothing else is asked for."""
BUDGET = timedelta(seconds=30)
"""How long a process of a cold world may go on."""
COLD = ContextVar("COLD", default=False)
"""Whether worlds are cold: every pass and every request is a new process, which shares nothing with those before but
the adapters. Its tasks are called once, and it applies their outcomes before it ends."""
LAGS = ContextVar("LAGS", default=False)
"""Whether cold worlds list the boxes as they were at the list before, and records in short pages with another writer
between."""


class Lagging:
    """A cluster that lists the boxes as they were at the list before, as a cluster does that is read from a cache."""

    def __init__(self, cluster: Any, seen: list[tuple[BoxSeen, ...]]) -> None:
        """Keep the newest list in `seen`, which outlives a process."""
        self._cluster, self._seen = cluster, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    def list_boxes(self) -> tuple[BoxSeen, ...]:
        self._seen.append(self._cluster.list_boxes())
        before = self._seen[0]
        del self._seen[:-1]
        return before


class Crowded:
    """A history whose pages are short, and in which another process writes between the first two pages of a list."""

    def __init__(self, history: History, store: StateStore) -> None:
        self._history, self._store = history, store
        self._is_calm = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._history, name)

        def listed(*arguments: Any, **options: Any) -> Page[Any]:
            asked = signature(getattr(MemoryStateStore, name)).bind(None, *arguments, **options)
            if "limit" not in asked.arguments:
                options["limit"] = SHORT_PAGE
            page: Page[Any] = found(*arguments, **options)
            if page.next and not self._is_calm:
                self._is_calm = True
                self._write(page.items[0])
            return page

        return listed

    def _write(self, record: object) -> None:
        """Write a record as it is, which gives it another version."""
        match record:
            case Reservation():
                self._store.commit(Change(reservations=(record,)))
            case Disk():
                self._store.commit(Change(disks=(record,)))
            case User():
                self._store.commit(Change(users=(record,)))
