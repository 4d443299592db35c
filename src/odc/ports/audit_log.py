"""Where events go before their records are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from odc.domain.records import AuditEvent


class AuditLog(Protocol):
    """An append-only log of events. May be called by several threads and processes at once."""

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Append the events. When this returns they are durable.

        The caller deletes its own records only afterwards. After a crash in between it appends the same events again:
        an event may be in the log more than once, and never less.

        Raises:
            ProviderUnavailable: the log cannot be written; a part of the events may be in it.
        """
