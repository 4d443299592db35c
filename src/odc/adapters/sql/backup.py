"""Taking records back from a backup file."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from odc.adapters.sql.schema import CURRENT
from odc.domain.errors import ProviderRefused


def restore_sqlite(source: Path, target: Path) -> Path | None:
    """Put the backup in the place of the records.

    Args:
        source: a file that `back_up` made.
        target: the records; no process may use them.

    Returns:
        Where the records of before lie now; None if there were none.

    Raises:
        ProviderRefused: the file is no whole backup of a known schema; nothing was changed.
    """
    _check(source)
    fresh = target.with_suffix(".restored")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(source, fresh)
    fresh.chmod(0o600)
    kept: Path | None = None
    if target.exists():
        _fold_log(target)
        kept = target.with_name(f"{target.name}.{datetime.now(UTC):%Y%m%dT%H%M%S}")
        target.rename(kept)
    for extra in ("-wal", "-shm"):
        target.with_name(target.name + extra).unlink(missing_ok=True)
    fresh.rename(target)
    return kept


def _check(source: Path) -> None:
    try:
        connection = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
        try:
            whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        finally:
            connection.close()
    except (sqlite3.Error, TypeError) as error:
        raise ProviderRefused(f"{source} is no backup of ODC's records: {error}") from error
    if whole != "ok":
        raise ProviderRefused(f"{source} is damaged: {whole}")
    if version > CURRENT:
        raise ProviderRefused(f"{source} was written by a newer ODC (schema {version})")


def _fold_log(database: Path) -> None:
    """Bring what is still in the write-ahead log into the file itself."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
