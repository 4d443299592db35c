"""Records in one DynamoDB table, through boto3. `table` has the layout, `transaction` the writes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import boto3
import msgspec
from botocore.config import Config

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.errors import mapped
from odc.adapters.dynamodb.handovers import finish_handovers
from odc.adapters.dynamodb.history import DynamoHistory
from odc.adapters.dynamodb.leases import DynamoLeases
from odc.adapters.dynamodb.pruning import DynamoPruning
from odc.adapters.dynamodb.table import BY_NAME, BY_ORDER, Table, joined
from odc.adapters.dynamodb.transaction import Transaction
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.document import Document
from odc.domain.records import Change, RequestRecord, Stored, StoreRoom
from odc.domain.reservation import Reservation, Secrets
from odc.domain.user import User

_CONNECT_S = 5
_READ_S = 20


class DynamoStateStore(DynamoHistory, DynamoLeases, DynamoPruning):
    """All ports of the records: `state_store`, `documents`, `history`, `leases`, `pruning` and `store_space`.

    Every read is strongly consistent.
    """

    def __init__(self, table: str, region: str, endpoint: str | None = None, attempts: int = 4) -> None:
        """Open the table; one that does not exist is created. Credentials are those that boto3 finds.

        Args:
            table: its name.
            region: where it is.
            endpoint: another server that speaks the protocol; None: AWS.
            attempts: how often a call is tried before it fails, with growing pauses.

        Raises:
            ProviderUnavailable: DynamoDB does not answer.
        """
        retries = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=_CONNECT_S,
            read_timeout=_READ_S,
        )
        client = boto3.session.Session().client("dynamodb", region_name=region, endpoint_url=endpoint, config=retries)
        self._table = Table(client, table)
        self._table.create()
        # Decoded records by id, with the version they were decoded at; replaced whole, so threads may share it.
        self._decoded: dict[str, Reservation] = {}

    def close(self) -> None:
        """Let go of every connection."""
        self._table.client.close()

    def room(self) -> StoreRoom:
        """Return that there is room: a table has no limit."""
        return StoreRoom()

    def observe(self) -> Stored:
        """Return all live records; pool versions are read before the records that they cover."""
        finish_handovers(self._table)
        pools = {item["sk"]: item for item in self._table.query("pools")}
        records: list[Reservation] = []
        unreadable: dict[str, str] = {}
        known = self._decoded
        for item in self._table.query(items.LIVE):
            before = known.get(item["sk"])
            if before is not None and (before.version, before.owner) == (item["version"], item["owner"]):
                records.append(before)
                continue
            try:
                records.append(items.reservation_of(item))
            except (msgspec.MsgspecError, ValueError) as error:
                unreadable[item["sk"]] = str(error)
        self._decoded = {record.id: record for record in records}
        records.sort(key=lambda record: record.order)
        disks = map(items.disk_of, self._table.query(items.DISKS, ("\x01", "~"), index=BY_NAME))
        held = tuple(items.user_of(item) for item in self._table.query(items.USERS, ("\x01", "~"), index=BY_NAME))
        return Stored(
            pools={name: item["version"] for name, item in pools.items()},
            plans={name: items.plan_of(item) for name, item in pools.items()},
            reservations=tuple(records),
            disks={disk.id: disk for disk in disks},
            held=held,
            unreadable=unreadable,
        )

    def commit(self, change: Change) -> None:
        """Write the change, or nothing of it.

        The token makes a repeat by the client, after an answer that was lost, the same transaction.
        """
        writes = Transaction(self._table, change).writes
        if not writes:
            return
        with mapped():
            self._table.client.transact_write_items(
                TransactItems=writes,  # type: ignore[arg-type]
                ClientRequestToken=uuid.uuid4().hex,
            )
        if change.handover is not None:
            finish_handovers(self._table)

    def find_request(self, request_id: str) -> RequestRecord | None:
        """The request with its answer, or None."""
        item = self._table.get("requests", request_id)
        return items.request_of(item) if item else None

    def find_reservation(self, reservation_id: str) -> Reservation | None:
        """The record with exactly this id, or None. It may move while it is looked for, but only to the ended ones."""
        item = self._table.get(items.LIVE, reservation_id) or self._table.get(items.ENDED, reservation_id)
        return items.reservation_of(item) if item else None

    def find_secrets(self, reservation_id: str) -> Secrets | None:
        """Return the secrets of exactly this reservation, or None."""
        item = self._table.get("secrets", reservation_id)
        return items.secrets_of(item) if item else None

    def find_in_line(self, order: int) -> Reservation | None:
        """The live reservation with this place in line, or None."""
        key = joined(order)
        found = next(self._table.query(items.LIVE, (key, key), index=BY_ORDER, limit=1), None)
        return items.reservation_of(found) if found else None

    def find_disks(self, ids: Iterable[str]) -> dict[str, Disk]:
        """Return the disks that exist of those with these ids."""
        found = self._table.get_many((items.DISKS, disk_id) for disk_id in ids)
        return {key: items.disk_of(item) for (_, key), item in found.items()}

    def find_disk(self, disk_id: str) -> Disk | None:
        """The disk with exactly this id, or None."""
        item = self._table.get(items.DISKS, disk_id)
        return items.disk_of(item) if item else None

    def find_snapshots(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], SnapshotRecord]:
        """Return the snapshots that exist of those with these ids."""
        found = self._table.get_many(items.snapshot_key(*key) for key in keys)
        return {(record.disk_id, record.id): record for record in map(items.snapshot_of, found.values())}

    def find_user(self, principal: str) -> User | None:
        """The user's record, or None."""
        item = self._table.get(items.USERS, principal)
        return items.user_of(item) if item else None

    def list_document_versions(self) -> dict[str, int]:
        """The version of every document."""
        found = self._table.query_keys(items.DOCUMENTS, BY_ORDER)
        return {item["sk"]: int(item[BY_ORDER]) for item in found}

    def find_documents(self, names: Iterable[str]) -> tuple[Document, ...]:
        """The documents of these names that exist."""
        found = self._table.get_many((items.DOCUMENTS, name) for name in names)
        return tuple(map(items.document_of, found.values()))
