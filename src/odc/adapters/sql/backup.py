"""Restores records from a backup file. A crash at any moment leaves complete records: the old ones or the new.

A backup has the name of its cloud in a table of its own, which is not part of the restored records. The backups of
earlier versions and the kept records of a restore do not have it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from odc.adapters.sql.schema import CURRENT
from odc.adapters.sql.tables import metadata
from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest, ProviderRefused, ProviderUnavailable
from odc.domain.names import cut

_LOGS = ("-wal", "-shm")
_FIRST_TABLES = metadata.tables.keys() - {"documents", "snapshots", "secrets"}
"""Those of the first schema: a backup of an earlier version has no others. They are made when it is opened."""


def name_cloud(backup: Path, cloud: str) -> None:
    """Write the name of its cloud into a new backup.

    Raises:
        ProviderRefused: the file cannot be written.
    """
    try:
        with contextlib.closing(sqlite3.connect(backup)) as connection, connection:
            connection.execute("CREATE TABLE backup_origin (cloud TEXT NOT NULL)")
            connection.execute("INSERT INTO backup_origin VALUES (?)", (cloud,))
    except sqlite3.Error as error:
        raise ProviderRefused(f"{backup} cannot be written: {error}") from error


def restore_sqlite(source: Path, target: Path, cloud: str = "", made_by: str = "") -> Path | None:
    """Replace the records by the backup.

    Args:
        source: a file that `back_up` made.
        target: the records, which may be damaged; no process may use them.
        cloud: whose records they are.
        made_by: the only other cloud whose backup is accepted.

    Returns:
        The file that now holds the earlier records; None if there were none.

    Raises:
        InvalidRequest: the backup is of another cloud; nothing was changed.
        ProviderRefused: the file is not a complete backup of a known schema; nothing was changed.
        ProviderUnavailable: the operating system's refusal, such as a full disk; nothing was changed.
    """
    if target.exists() and source.samefile(target):
        raise ProviderRefused(f"{source} is the file of the records themselves; name a backup")
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = target.with_suffix(".restored")
    try:
        # SQLite would apply the log that a killed restore has left to the new copy.
        _remove(fresh)
        _copy(source, fresh)
        _check(fresh, source)
        if cloud:
            _check_cloud(fresh, source, cloud, made_by)
        kept = _keep(target)
        fresh.replace(target)
    except OSError as error:
        raise ProviderUnavailable(f"{source} cannot be restored: {error.strerror or error}") from error
    finally:
        _remove(fresh)
    return kept


def _remove(database: Path) -> None:
    """Delete a file of records with its logs, if it exists."""
    for name in ("", *_LOGS):
        database.with_name(database.name + name).unlink(missing_ok=True)


def _copy(source: Path, fresh: Path) -> None:
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
        with source.open("rb") as original:
            shutil.copyfileobj(original, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _check(copy: Path, source: Path) -> None:
    """Check the copy and not the original, so that the checked file is the one that is used."""
    try:
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            whole = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            known = {"alembic_version", *_FIRST_TABLES} <= tables
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    except sqlite3.Error as error:
        raise ProviderRefused(f"{source} is not an ODC backup: {error}") from error
    if whole != "ok":
        raise ProviderRefused(f"{source} is damaged: {whole}")
    if row is None:
        raise ProviderRefused(f"{source} is not an ODC backup: it lacks the tables of the records")
    if row[0] > CURRENT:
        raise ProviderRefused(f"{source} was written by a newer ODC (schema {row[0]}); upgrade this one")


def _check_cloud(copy: Path, source: Path, cloud: str, made_by: str) -> None:
    """Check the name of the backup's cloud, if it has one, and delete it from the copy."""
    with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        row = connection.execute("SELECT cloud FROM backup_origin").fetchone() if "backup_origin" in tables else None
        connection.execute("DROP TABLE IF EXISTS backup_origin")
    origin = str(row[0]) if row else cloud
    if origin in (cloud, made_by):
        return
    file = shlex.quote(str(source))
    raise InvalidRequest(
        f'{source} is a backup of the cloud "{cut(origin)}", and this is the cloud "{cloud}"; nothing was changed',
        ("into that cloud", f"odc --config FILE restore {file}, with the settings file of {cut(origin)}"),
        ("if this cloud was renamed, or replaces that one", odc(f"restore {file} --of {shlex.quote(cut(origin))}")),
    )


def _keep(target: Path) -> Path | None:
    """Keep the current records under a second name, and move log files away that SQLite would apply to the new ones."""
    if not target.exists():
        return None
    with contextlib.suppress(sqlite3.Error):  # damaged records are kept as they are
        _fold_log(target)
    kept = target.with_name(f"{target.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
    kept.hardlink_to(target)
    for name in _LOGS:
        log = target.with_name(target.name + name)
        if log.exists():
            log.rename(kept.with_name(kept.name + name))
    return kept


def _fold_log(database: Path) -> None:
    """Move the contents of the write-ahead log into the file itself."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
