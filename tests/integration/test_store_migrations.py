"""Records that an earlier version wrote are read by this one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from tests.postgres import private_postgres

from odc.adapters.sql import schema
from odc.adapters.sql.backup import restore_sqlite
from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.disk import SnapshotSummary
from odc.domain.disk_history import summary_of
from odc.domain.pool_document import PoolDocument
from odc.domain.records import Change, Subject
from odc.domain.reservation import Secrets

ADAPTERS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
USER = {"principal": "unix:1000", "name": "ada", "own_keys": ["ssh-ed25519 AAAA"], "version": 1}
SNAPSHOTS = [
    {"id": f"r{number}-1", "taken_at": "2026-01-01T00:00:00Z", "verified_at": "2026-01-01T00:01:00Z", "used_bytes": 5}
    for number in range(3)
]
DISK: dict[str, Any] = {
    "id": "d" * 32,
    "owner": "unix:1000",
    "name": "proj",
    "size_bytes": 100,
    "created_at": "2026-01-01T00:00:00Z",
    "snapshots": SNAPSHOTS[1:],
    "deleting": SNAPSHOTS[:1],
}
RESERVATION: dict[str, Any] = {
    "id": "a" * 32,
    "owner": "unix:1000",
    "user": "ada",
    "name": "train",
    "spec": {"gpu_type": "h100", "gpus": 1, "units": 1, "hours": 1.0, "disk": None},
    "host_key": {"private": "a private key\n", "public": "ssh-ed25519 AAAA odc"},
    "created_at": "2026-01-01T00:00:00Z",
}
REQUEST: dict[str, Any] = {
    "id": "0" * 32,
    "principal": "unix:1000",
    "kind": "Reserve",
    "digest": "d",
    "received_at": "2026-01-01T00:00:00Z",
    "status": 200,
    "answer": "e30=",
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with private_postgres() as address:
        yield address


@pytest.fixture(params=ADAPTERS)
def first_schema(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database as 0.1.0 left it, with one user and one request; its address."""
    sqlite = request.param == "sqlite"
    address = f"sqlite:///{tmp_path}/odc.db" if sqlite else request.getfixturevalue("postgres")
    write_first_schema(address)
    return address


def write_first_schema(address: str) -> None:
    """Make a database as 0.1.0 left it, with one user and one request."""
    engine = sa.create_engine(address)
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sa.text("INSERT INTO pools VALUES ('h100', 7)"))
        body = {"body": json.dumps(USER).encode()}
        connection.execute(sa.text("INSERT INTO users VALUES ('unix:1000', 1, :body)"), body)
        for disk in (DISK, {**DISK, "id": "e" * 32, "name": "new", "snapshots": [], "deleting": []}):
            row = {"body": json.dumps(disk).encode(), **disk}
            connection.execute(sa.text("INSERT INTO disks VALUES (:id, :owner, :name, 3, :body)"), row)
        insert = "INSERT INTO reservations (id, owner, name, state, live, version, body)"
        for number, live in enumerate((True, False)):
            record = {**RESERVATION, "id": str(number) * 32, "state": "queued" if live else "ended"}
            row = record | {"live": live, "body": json.dumps(record).encode()}
            connection.execute(sa.text(f"{insert} VALUES (:id, :owner, :name, :state, :live, 2, :body)"), row)
        event = {"reservation_id": "0" * 32, "at": "2026-01-01T00:00:00Z", "actor": "ada", "kind": "asked", "text": "a"}
        row = {"id": event["reservation_id"], "body": json.dumps(event).encode()}
        connection.execute(sa.text("INSERT INTO events (reservation_id, body) VALUES (:id, :body)"), row)
        body = {"body": json.dumps(REQUEST).encode()}
        connection.execute(sa.text("INSERT INTO requests VALUES (:id, :body)"), body | {"id": REQUEST["id"]})
    engine.dispose()


def test_records_of_the_first_schema_are_read_and_written(first_schema: str) -> None:
    begun = datetime.fromtimestamp(int(time.time()), UTC)
    store = SqlStateStore(first_schema)
    try:
        (user,) = store.list_users().items
        assert (user.name, user.claimed_by, user.version) == ("ada", "", 1)
        store.commit(Change(users=(user,)))
        seen = store.observe()
        assert seen.held == ()
        assert (seen.pools, seen.plans) == ({"h100": 7}, {"h100": PoolDocument()})
        store.commit(Change(pools={"h100": 7}, plans={"h100": PoolDocument(picture="x")}))
        assert store.observe().plans["h100"].picture == "x"
        assert store.prune_requests(begun, 10) == 0
        assert store.find_request(REQUEST["id"]) is not None
        assert store.prune_requests(begun + timedelta(days=1), 10) == 1
    finally:
        store.close()


def test_a_backup_of_the_first_schema_is_restored_and_has_the_newer_tables_then(tmp_path: Path) -> None:
    backup, records = tmp_path / "backup.db", tmp_path / "odc.db"
    write_first_schema(f"sqlite:///{backup}")
    assert restore_sqlite(backup, records) is None
    store = SqlStateStore(f"sqlite:///{records}")
    try:
        assert [user.name for user in store.list_users().items] == ["ada"]
        assert store.list_document_versions() == {}
    finally:
        store.close()


def test_the_snapshots_of_the_first_schema_are_records_of_their_own(first_schema: str) -> None:
    store = SqlStateStore(first_schema)
    try:
        new, disk = store.list_disks("unix:1000").items
        assert (disk.name, disk.version, new.snapshots) == ("proj", 3, SnapshotSummary())
        records = store.list_snapshots(disk.id).items
        assert [(record.id, record.number, record.deleting) for record in records] == [
            ("r0-1", 1, True),
            ("r1-1", 2, False),
            ("r2-1", 3, False),
        ]
        assert disk.snapshots == summary_of(records, 4)
        assert disk.last_snapshot == records[-1].snapshot
        assert store.list_snapshots(new.id).items == ()
    finally:
        store.close()


def test_the_private_keys_of_the_first_schema_are_records_of_their_own(first_schema: str) -> None:
    store = SqlStateStore(first_schema)
    try:
        (live,), (ended,) = store.list_live(None).items, store.list_ended(None).items
        for record in (live, ended):
            assert (record.name, record.version, record.host_key) == ("train", 2, "ssh-ed25519 AAAA odc")
            assert store.find_secrets(record.id) == Secrets(reservation_id=record.id, host_key="a private key\n")
        with store._engine.connect() as connection:
            bodies = connection.execute(sa.text("SELECT body FROM reservations")).scalars()
            assert not any(b"private key" in body for body in bodies)
    finally:
        store.close()


def test_the_events_of_the_first_schema_are_those_of_reservations(first_schema: str) -> None:
    store = SqlStateStore(first_schema)
    try:
        (event,) = store.list_events(Subject.reservation("0" * 32)).items
        assert (event.subject, event.actor, event.kind) == (Subject.reservation("0" * 32), "ada", "asked")
        store.commit(Change(events=(event,)))
        assert store.list_events(event.subject).items == (event, event)
    finally:
        store.close()


@pytest.mark.parametrize("claim", [{}, {"successor": "s"}, {"zone": "a"}], ids=str)
def test_the_disks_that_passes_need_are_observed(tmp_path: Path, claim: dict[str, str]) -> None:
    address = f"sqlite:///{tmp_path}/odc.db"
    write_first_schema(address)
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        body = json.dumps({**DISK, "holder": "h", **claim}).encode()
        connection.execute(sa.text("UPDATE disks SET body = :body WHERE id = :id"), {"body": body, "id": DISK["id"]})
    engine.dispose()
    store = SqlStateStore(address)
    try:
        assert set(store.observe().disks) == ({DISK["id"]} if claim else set())
    finally:
        store.close()
