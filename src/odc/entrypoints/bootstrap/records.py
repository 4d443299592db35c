"""The records of a cloud, for commands of the operator that need no daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from odc.operator.settings import Settings

if TYPE_CHECKING:
    from odc.adapters.sql.state_store import SqlStateStore


class SqlRecords:
    """See `odc.operator.backend.Records`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.state_folder / "odc.db"

    def exist(self) -> bool:
        """Whether there is the file; of PostgreSQL it is not asked."""
        return bool(self._settings.database) or self._file.exists()

    @contextmanager
    def open(self) -> Iterator[SqlStateStore]:
        """The store."""
        with closing(self._store()) as store:
            yield store

    def back_up(self, target: Path) -> None:
        """Copy the file while a daemon may write, and add the name of the cloud."""
        from odc.adapters.sql.backup import name_cloud

        with closing(self._store()) as store:
            store.back_up(target)
        name_cloud(target, self._settings.cloud)

    def restore(self, source: Path, made_by: str) -> Path | None:
        """Replace the file."""
        from odc.adapters.sql.backup import restore_sqlite

        return restore_sqlite(source, self._file, self._settings.cloud, made_by)

    def _store(self) -> SqlStateStore:
        from odc.adapters.sql.state_store import SqlStateStore  # slow to import, and most commands read no records

        return SqlStateStore(self._settings.database_address)
