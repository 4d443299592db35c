"""The audit log as a file: one JSON object in each line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from odc.domain.errors import ProviderUnavailable
from odc.domain.records import AuditEvent


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a line of the log."""

    at: datetime
    subject: str
    id: str
    actor: str
    kind: str
    text: str
    when: datetime | None


class AuditFile:
    """See `odc.ports.audit_log`. Only its owner, root, can read the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Append the events, and flush them to the disk."""
        lines = b"".join(_line(event) for event in events)
        try:
            self._append(lines)
        except OSError as error:
            raise ProviderUnavailable(f"{self._path} cannot be written: {error.strerror or error}") from error

    def _append(self, lines: bytes) -> None:
        is_new = not self._path.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
            # A write that was cut off must not spoil the line after it: its events are in the log again below.
            torn = file.tell() > 0 and not _ends_line(self._path)
            file.write(b"\n" * torn + lines)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _line(event: AuditEvent) -> bytes:
    line = _Line(
        at=event.at,
        subject=event.subject_kind,
        id=event.subject_id,
        actor=event.actor,
        kind=event.kind,
        text=event.text,
        when=event.when,
    )
    return msgspec.json.encode(line) + b"\n"
