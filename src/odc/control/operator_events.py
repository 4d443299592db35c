"""Events of what an operator does to disks and users, each in the transaction that does it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from odc.domain.event_kind import EventKind
from odc.domain.records import AuditEvent, SubjectKind


@dataclass(frozen=True, slots=True)
class OperatorEvents:
    """Makes the events of one request.

    Attributes:
        actor: the operator's name.
        at: when the request is handled.
    """

    actor: str
    at: datetime

    def of_disk(self, disk_id: str, kind: EventKind, text: str) -> AuditEvent:
        """An event of a disk."""
        return self._event(SubjectKind.DISK, disk_id, kind, text)

    def of_user(self, principal: str, kind: EventKind, text: str) -> AuditEvent:
        """An event of a user."""
        return self._event(SubjectKind.USER, principal, kind, text)

    def _event(self, subject: SubjectKind, subject_id: str, kind: EventKind, text: str) -> AuditEvent:
        return AuditEvent(
            subject_kind=subject, subject_id=subject_id, at=self.at, actor=self.actor, kind=kind, text=text
        )
