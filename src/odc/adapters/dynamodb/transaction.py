"""A change as one transaction: all of its items are written, or none.

Each write has a condition on the version that was read. Names are unique by an item for each name that is taken, which
is written or deleted in the same transaction. What an item was before is read first, since a transaction may touch an
item only once and must say which name goes; the conditions make sure that it is still so.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.table import Item, Key, Table, joined, to_wire
from odc.domain.disk import Disk
from odc.domain.errors import Conflict, InvariantError
from odc.domain.pool_document import PoolDocument, encode_document
from odc.domain.records import MAX_ITEMS, Change
from odc.domain.reservation import Reservation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


class Transaction:
    """The writes of one change."""

    def __init__(self, table: Table, change: Change) -> None:
        """Read what the change replaces, and put the writes together; nothing is written.

        Raises:
            Conflict: a version differs already, or two records of the change want one name.
            InvariantError: the change is larger than a transaction may be.
        """
        self._table = table
        self._writes: list[dict[str, Any]] = []
        self._taken: dict[Key, str] = {}
        self._released: dict[Key, str] = {}
        self._numbers = self._reserve_numbers(change)
        known = table.get_many(
            [(items.LIVE, record.id) for record in change.reservations if record.version]
            + [(items.DISKS, disk.id) for disk in change.disks if disk.version]
        )
        for pool, version in change.pools.items():
            self._put_pool(pool, version, change.plans.get(pool))
        for record in change.reservations:
            self._put_reservation(record, known.get((items.LIVE, record.id)))
        for disk in change.disks:
            self._put_disk(disk, known.get((items.DISKS, disk.id)))
        for document in change.documents:
            self._put(items.document_item(document), document.version)
        self._put_unversioned(change)
        for user in change.users:
            self._put(items.user_item(user), user.version)
        self._put_names()
        self._put_others(change)

    @property
    def writes(self) -> list[dict[str, Any]]:
        """The items of `TransactWriteItems`.

        Raises:
            InvariantError: there are more than a transaction may have.
        """
        if len(self._writes) > MAX_ITEMS:
            raise InvariantError(f"a change of {len(self._writes)} items; at most {MAX_ITEMS} are written at once")
        return self._writes

    def _reserve_numbers(self, change: Change) -> list[int]:
        new = sum(record.version == 0 for record in change.reservations)
        count = new + len({event.subject for event in change.events}) + (change.handover is not None)
        first = self._table.next_number(count) if count else 0
        # Taken from the end.
        return list(range(first + count - 1, first - 1, -1))

    def _put_unversioned(self, change: Change) -> None:
        """Secrets and snapshots; the versions of the records that they belong to keep other writers away."""
        new = [items.secrets_item(secrets) for secrets in change.secrets]
        new += [items.snapshot_item(snapshot) for snapshot in change.snapshots]
        for item in new:
            self._write("Put", {"Item": to_wire(item)}, "", {})
        for gone in change.deleted_snapshots:
            partition, key = items.snapshot_key(gone.disk_id, gone.id)
            self._write("Delete", {"Key": to_wire({"pk": partition, "sk": key})}, "", {})

    def _put_pool(self, pool: str, version: int, plan: PoolDocument | None) -> None:
        """Write the next version; a plan that is not given stays."""
        values: Item = {
            ":next": version + 1,
            ":read": version or None,
            ":plan": encode_document(plan) if plan else None,
        }
        update: dict[str, Any] = {
            "Key": to_wire({"pk": "pools", "sk": pool}),
            "UpdateExpression": "SET version = :next" + (", #plan = :plan" if plan else ""),
        }
        if plan:
            update["ExpressionAttributeNames"] = {"#plan": "plan"}
        condition = "version = :read" if version else "attribute_not_exists(pk)"
        self._write("Update", update, condition, to_wire(values))

    def _put_reservation(self, record: Reservation, known: Item | None) -> None:
        if record.version == 0:
            self._put(items.reservation_item(record, self._numbers.pop()), 0)
        elif known is not None and not record.live:
            self._delete((items.LIVE, record.id), record.version)
            self._put(items.reservation_item(record, known["place"]), 0)
        else:
            # One that is not among the live ones must have ended: the condition holds only then.
            self._put(items.reservation_item(record, known["place"] if known else record.order), record.version)
        before = (known["owner"], known.get("held")) if known else ("", None)
        after = (record.owner, record.name if record.holds_name else None)
        self._rename("reservation", record.id, before, after)

    def _put_disk(self, disk: Disk, known: Item | None) -> None:
        self._put(items.disk_item(disk), disk.version)
        before = (known["owner"], known["held"]) if known else ("", None)
        self._rename("disk", disk.id, before, (disk.owner, disk.name))

    def _rename(self, kind: str, identity: str, before: tuple[str, str | None], after: tuple[str, str | None]) -> None:
        if before == after:
            return
        if before[1] is not None:
            self._released[_name_key(kind, before[0], before[1])] = identity
        if after[1] is not None:
            key = _name_key(kind, after[0], after[1])
            if key in self._taken:
                raise Conflict(f"two of the change have the name {after[1]}")
            self._taken[key] = identity

    def _put_names(self) -> None:
        for key in sorted(self._taken.keys() | self._released.keys()):
            named = {"pk": key[0], "sk": key[1], "id": self._taken.get(key)}
            condition, values = "attribute_not_exists(pk)", {}
            if key in self._released:
                condition, values = "id = :id", to_wire({":id": self._released[key]})
            if key in self._taken:
                self._write("Put", {"Item": to_wire(named)}, condition, values)
            else:
                self._write("Delete", {"Key": to_wire(named)}, condition, values)

    def _put_others(self, change: Change) -> None:
        for subject in dict.fromkeys(event.subject for event in change.events):
            events = [event for event in change.events if event.subject == subject]
            self._put(items.events_item(events, self._numbers.pop(), micros(events[0].at)), 0)
        if change.request is not None:
            self._put(items.request_item(change.request, micros(change.request.received_at)), 0)
        if change.clock_anchor is not None:
            self._write("Put", {"Item": to_wire(items.anchor_item(change.clock_anchor))}, "", {})
        if change.handover is not None:
            gone, to = change.handover.user, change.handover.to
            self._delete((items.USERS, gone.principal), gone.version)
            below = self._numbers.pop()
            self._put({"pk": "handovers", "sk": joined(gone.principal, below), "to": to, "place": below}, 0)

    def _put(self, item: Item, read: int) -> None:
        """Write an item whose stored version must be the one that was read; 0: there must be none."""
        if read == 0:
            self._write("Put", {"Item": to_wire(item)}, "attribute_not_exists(pk)", {})
        else:
            self._write("Put", {"Item": to_wire(item)}, "version = :version", to_wire({":version": read}))

    def _delete(self, key: Key, read: int) -> None:
        named = to_wire({"pk": key[0], "sk": key[1]})
        self._write("Delete", {"Key": named}, "version = :version", to_wire({":version": read}))

    def _write(self, kind: str, what: dict[str, Any], condition: str, values: dict[str, Any]) -> None:
        write: dict[str, Any] = {"TableName": self._table.name, **what}
        if condition:
            write["ConditionExpression"] = condition
        if values:
            write["ExpressionAttributeValues"] = values
        if kind == "Delete":
            write["Key"] = {name: write["Key"][name] for name in ("pk", "sk")}
        self._writes.append({kind: write})


def _name_key(kind: str, owner: str, name: str) -> Key:
    return f"names {owner}", joined(kind, name)
