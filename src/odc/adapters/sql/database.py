"""Transactions on the database, and the vendor's errors as ODC's; base of the parts of `SqlStateStore`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from odc.adapters.sql.disk_reserve import DiskReserve
from odc.adapters.sql.schema import open_engine
from odc.domain.commands import odc
from odc.domain.errors import Conflict, ProviderUnavailable

# PostgreSQL undid the transaction to let another through: a serialization failure, a deadlock.
_LOST_RACES = ("40001", "40P01")


class Database:
    """One database with a current schema. May be used by several threads at once."""

    def __init__(self, address: str, reserve: DiskReserve | None = None) -> None:
        """Open the records and bring their schema up to date.

        Args:
            address: as SQLAlchemy reads it.
            reserve: space for the records when their file system is full; None: none is kept.

        Raises:
            ProviderUnavailable: the database does not answer.
            ProviderRefused: it was written by a newer version.
        """
        self._reserve = reserve
        self._engine = open_engine(address)

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Yield a connection in which all reads see one consistent snapshot."""
        level = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self._mapped(), self._engine.connect().execution_options(**level) as connection, connection.begin():
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._mapped(), self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the vendor's errors into ODC's: all except integrity errors count as passing."""
        try:
            yield
        except sa.exc.IntegrityError:
            raise
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            if getattr(cause, "sqlstate", None) in _LOST_RACES:
                raise Conflict("a write was rolled back in favour of another writer") from error
            if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                if self._reserve is not None:
                    self._reserve.release()
                text = "the file system of the records is full; nothing was written, and nothing is lost"
                raise ProviderUnavailable(text, ("see what is full", odc("doctor"))) from error
            words = str(cause).splitlines()[0]
            text = f"the database of records does not answer: {words}"
            raise ProviderUnavailable(text, ("look closer", "sudo " + odc("doctor"))) from error
