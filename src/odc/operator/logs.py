"""Structured logs: one JSON object a line, on standard error.

The daemon that `odc up` starts has a file there. It never fills the machine: a full one is put aside, one is kept.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from odc.api.hints import hint_of, hint_view
from odc.api.messages.requests import HintView
from odc.domain.errors import Hint, OdcError
from odc.operator.log_rate_limit import RefusalRateLimit

FULL_BYTES = 32 * 2**20
CANNOT_START = "cannot start"
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, what the call added, and the traceback of an exception. Lists stay lists; anything
    else that was added is text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        added = {key: value for key, value in vars(record).items() if key not in _USUAL}
        entry |= {key: value if isinstance(value, list) else str(value) for key, value in added.items()}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error. If that is the given file, rotates it when it is full, and opens it again when it was
    moved or deleted, as by `logrotate`: the daemon needs no signal.
    """

    def __init__(self, file: Path | None, full_bytes: int = FULL_BYTES) -> None:
        super().__init__(sys.stderr)
        self._file = file if file is not None and _is_stderr(file) else None
        self._full_bytes = full_bytes

    def emit(self, record: logging.LogRecord) -> None:
        """One line. A log that cannot be kept short does not stop the daemon."""
        if self._file is not None and not _is_stderr(self._file):
            self._open_again(self._file)
        super().emit(record)
        if self._file is None:
            return
        try:
            if os.fstat(self.stream.fileno()).st_size > self._full_bytes:
                # In place: the file was opened for appending, by the process that started this one.
                shutil.copyfile(self._file, self._file.with_name(self._file.name + ".1"))
                os.ftruncate(self.stream.fileno(), 0)
        except OSError:
            self._file = None

    def _open_again(self, file: Path) -> None:
        """Redirect standard error of this process and its children to the file of this name."""
        try:
            fresh = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # the folder is gone, or the host is full: keep writing to the old file
        try:
            os.dup2(fresh, self.stream.fileno())
        finally:
            os.close(fresh)


def _is_stderr(file: Path) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(sys.stderr.fileno()))
    except (OSError, ValueError):
        return False


def set_up_logs(level: str = "INFO", file: Path | None = None, full_bytes: int = FULL_BYTES) -> None:
    """Send every log of the process to standard error.

    Args:
        level: the lowest level that is logged.
        file: the log file, if standard error is one.
        full_bytes: size at which that file is rotated.
    """
    handler = StderrHandler(file, full_bytes)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(RefusalRateLimit())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx2", "urllib3", "podman", "uvicorn", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel("WARNING")


def log_cannot_start(error: OdcError) -> None:
    """Log why the daemon exits, so that the process that started it can read the reason with `why_not_started`."""
    hints = [msgspec.to_builtins(hint_view(hint)) for hint in error.hints]
    logging.getLogger(__name__).critical(CANNOT_START, extra={"error": error.message, "hints": hints})


def why_not_started(log: Path, since: int) -> tuple[str, tuple[Hint, ...]] | None:
    """Return why a daemon could not start: message and hints; for a bug, its last line and no hints; else None.

    Args:
        log: its log.
        since: the byte at which its part begins; earlier daemons' lines are ignored.
    """
    try:
        lines = log.read_bytes()[since:].decode(errors="replace").strip().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            entry = msgspec.json.decode(line, type=dict[str, object])
        except msgspec.MsgspecError:
            continue
        if entry.get("event") == CANNOT_START:
            hints = msgspec.convert(entry["hints"], tuple[HintView, ...])
            return str(entry["error"]), tuple(hint_of(hint) for hint in hints)
    return (lines[-1], ()) if lines and not lines[-1].startswith("{") else None
