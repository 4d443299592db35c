"""Every adapter of the records, each with an empty store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.dynamodb import new_table, private_dynamodb
from tests.postgres import private_postgres
from tests.records import Records

from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.sql.state_store import SqlStateStore

ADAPTERS = ["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
ADAPTERS.append(pytest.param("dynamodb", marks=pytest.mark.dynamodb))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with private_postgres() as address:
        yield address


@pytest.fixture(scope="session")
def dynamodb() -> Iterator[str]:
    with private_dynamodb() as address:
        yield address


@pytest.fixture(params=ADAPTERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    if request.param == "memory":
        yield MemoryStateStore()
        return
    if request.param == "dynamodb":
        table = new_table(request.getfixturevalue("dynamodb"))
        yield table
        table.close()
        return
    if request.param == "sqlite":
        sql = SqlStateStore(f"sqlite:///{tmp_path}/odc.db")
    else:
        address = request.getfixturevalue("postgres")
        engine = sa.create_engine(address)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()
        sql = SqlStateStore(address)
    yield sql
    sql.close()
