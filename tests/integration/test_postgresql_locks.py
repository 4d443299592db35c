"""Locks of a PostgreSQL transaction whose process has stopped."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.postgres import private_postgres
from tests.waiting import eventually

from odc.adapters.sql import schema
from odc.adapters.sql.schema import open_engine

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
