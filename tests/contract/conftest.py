"""Every adapter of the records, each with an empty store, and every adapter of volumes, with a disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.builders import an_id
from tests.claims import ClaimStorage, new_namespace
from tests.cluster.conftest import cluster
from tests.cluster.layout import Layout
from tests.dynamodb import new_table, private_dynamodb
from tests.postgres import private_postgres
from tests.records import Records
from tests.storage import MIB, MemoryStorage, Storage, btrfs_mount, btrfs_storage, folders_storage, made

from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.sql.state_store import SqlStateStore

__all__ = ["cluster"]

ADAPTERS = ["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
ADAPTERS.append(pytest.param("dynamodb", marks=pytest.mark.dynamodb))
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
VOLUMES = ["memory", pytest.param("folders", marks=AS_ROOT), pytest.param("btrfs", marks=pytest.mark.btrfs)]
VOLUMES.append(pytest.param("kubernetes", marks=pytest.mark.kubernetes))
_numbers = itertools.count()


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


@pytest.fixture(scope="session")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs_mount(tmp_path_factory.mktemp("odc-contract") / "disks") as folder:
        yield folder


@pytest.fixture(scope="session")
def claims(cluster: Layout) -> Iterator[tuple[Layout, str]]:
    with new_namespace(cluster) as namespace:
        yield cluster, namespace


@pytest.fixture(params=VOLUMES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "memory":
        yield MemoryStorage()
    elif request.param == "folders":
        with folders_storage(tmp_path / "disks") as found:
            yield found
    elif request.param == "kubernetes":
        claims = ClaimStorage(*request.getfixturevalue("claims"))
        yield claims
        claims.api.close()
    else:
        root = request.getfixturevalue("btrfs") / str(next(_numbers))
        with btrfs_storage(root) as found:
            yield found


@pytest.fixture
def disk(storage: Storage) -> str:
    disk_id = an_id()
    made(storage.volumes, disk_id, 64 * MIB)
    return disk_id
