"""Opens a database and brings its schema up to date. Two processes may open the same one at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from odc.domain.errors import ProviderRefused, ProviderUnavailable

CURRENT = "0010"
BUSY_S = 10
"""How long a writer waits for another one."""
IDLE_S = 20
"""PostgreSQL ends a transaction that has sent no statement for so long. Its process is suspended, or its machine is
gone, and the rows that it has locked would keep the daemon that has taken over from writing. Ours take milliseconds.
"""
KEPT_CONNECTIONS = 5
MOST_CONNECTIONS = 85
"""At once: one for each thread of the API (48) and for each task (32), and some for passes. PostgreSQL accepts 97 by
default. Those beyond the kept ones are closed after use."""
_POOL = {"pool_size": KEPT_CONNECTIONS, "max_overflow": MOST_CONNECTIONS - KEPT_CONNECTIONS}


def open_engine(address: str) -> sa.Engine:
    """An engine whose schema is current.

    Args:
        address: as SQLAlchemy reads it: `sqlite:///…` or `postgresql+psycopg://…`.

    Raises:
        ProviderUnavailable: the database does not answer.
        ProviderRefused: it was written by a newer version of ODC; nothing was changed.
    """
    engine = _sqlite(address) if address.startswith("sqlite") else _postgresql(address)
    try:
        _upgrade(engine)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise ProviderUnavailable(f"the database of records cannot be opened: {_words(error)}") from error
    return engine


def _words(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def _postgresql(address: str) -> sa.Engine:
    engine = sa.create_engine(address, pool_pre_ping=True, **_POOL)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        for name, seconds in {"lock_timeout": BUSY_S, "idle_in_transaction_session_timeout": IDLE_S}.items():
            connection.execute(f"SET {name} = {int(1000 * seconds)}")
        connection.commit()

    return engine


def _sqlite(address: str) -> sa.Engine:
    path = address.removeprefix("sqlite:///")
    Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(address, connect_args={"timeout": BUSY_S, "check_same_thread": False}, **_POOL)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        # Transactions are begun by hand: a writer takes the write lock first, so that it never has to give up midway.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_S * 1000}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def stored_version(connection: sa.Connection) -> str | None:
    """The schema version of a database, or None if it has no schema."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        version = stored_version(connection)
    if version == CURRENT:
        return
    if version is not None and version > CURRENT:
        raise ProviderRefused(f"the records were written by a newer ODC (schema {version}); upgrade this one")
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # Another process may be migrating, for as long as that takes.
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7030112)"))
        if stored_version(connection) != CURRENT:
            _migrate(connection)


def _migrate(connection: sa.Connection) -> None:
    # Imported here: it is slow, and needed only when there is something to do.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
