"""PostgreSQL: locks of a transaction whose process has stopped, and a server that is away."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.postgres import private_postgres
from tests.waiting import eventually

from odc.adapters.sql import schema
from odc.adapters.sql.schema import open_engine
from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.errors import ProviderUnavailable

pytestmark = pytest.mark.postgresql
TOUCH = sa.text("UPDATE alembic_version SET version_num = version_num")


def test_a_transaction_whose_process_is_suspended_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.2)
    monkeypatch.setattr(schema, "IDLE_S", 2)
    with private_postgres() as address:
        one, two = open_engine(address), open_engine(address)

        def writes() -> bool:
            try:
                with two.begin() as connection:
                    connection.execute(TOUCH)
            except sa.exc.OperationalError as error:
                assert "lock timeout" in str(error)
                return False
            return True

        suspended = one.connect()
        suspended.execute(TOUCH)
        assert not writes()
        eventually("the lock is released", writes)
        with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction timeout"):
            suspended.execute(TOUCH)
        suspended.invalidate()
        one.dispose()
        two.dispose()


def test_a_database_that_is_away_is_named_with_the_next_command_and_is_used_again_once_it_is_back() -> None:
    with private_postgres() as address:
        store = SqlStateStore(address)
        folder = Path(address.partition("host=")[2])
        socket, away = folder / ".s.PGSQL.5432", folder / "away"
        store.observe()
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        other = sa.create_engine(address)
        with other.connect() as connection:
            connection.execute(sa.text(terminate))
        other.dispose()
        socket.rename(away)
        for _ in range(3):  # each connection of the pool is found broken once
            with pytest.raises(ProviderUnavailable, match="the database of records does not answer") as refused:
                store.observe()
            assert [hint.command for hint in refused.value.hints] == ["sudo odc doctor"]
        away.rename(socket)
        store.observe()
        store.close()
