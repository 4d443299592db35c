"""Records as items, and back. The body is JSON; the attributes next to it are the truth for what queries compare."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from odc.adapters.dynamodb.table import BY_NAME, BY_ORDER, BY_OWNER, BY_OWNER_AND_NAME, Item, Key, joined
from odc.domain.disk import Disk, SnapshotRecord
from odc.domain.document import Document
from odc.domain.pool_document import PoolDocument, decode_document
from odc.domain.records import AuditEvent, ClockAnchor, RequestRecord, Subject, SubjectKind
from odc.domain.reservation import Reservation, Secrets
from odc.domain.user import User

LIVE, ENDED, DISKS, SNAPSHOTS, USERS, DOCUMENTS = "live", "ended", "disks", "snapshots", "users", "documents"
_encode = msgspec.json.Encoder().encode
_reservation = msgspec.json.Decoder(Reservation)
_secrets = msgspec.json.Decoder(Secrets)
_disk = msgspec.json.Decoder(Disk)
_snapshot = msgspec.json.Decoder(SnapshotRecord)
_user = msgspec.json.Decoder(User)
_event = msgspec.json.Decoder(AuditEvent)
_request = msgspec.json.Decoder(RequestRecord)
_anchor = msgspec.json.Decoder(ClockAnchor)


def reservation_item(record: Reservation, order: int) -> Item:
    """The item of a record with the version that was read; stored is the next version."""
    return {
        "pk": LIVE if record.live else ENDED,
        "sk": record.id,
        "version": record.version + 1,
        "place": order,
        "record_name": record.name,
        "held": record.name if record.holds_name else None,
        "body": _encode(record),
        BY_ORDER: joined(order),
        BY_NAME: joined(record.name, order),
        **owner_attributes(record.owner, record.name, order),
    }


def owner_attributes(owner: str, name: str, order: int) -> Item:
    """The attributes of a reservation that a new owner changes."""
    return {"owner": owner, BY_OWNER: joined(owner, order), BY_OWNER_AND_NAME: joined(owner, name, order)}


def reservation_of(item: Item) -> Reservation:
    """The record of an item. The owner's attribute is the truth: a handover does not write bodies."""
    record = _reservation.decode(item["body"])
    return replace(record, owner=item["owner"], version=item["version"], order=item["place"])


def secrets_item(secrets: Secrets) -> Item:
    """The item of the secrets of a reservation."""
    return {"pk": "secrets", "sk": secrets.reservation_id, "body": _encode(secrets)}


def secrets_of(item: Item) -> Secrets:
    """The record of an item."""
    return _secrets.decode(item["body"])


def disk_item(disk: Disk) -> Item:
    """As `reservation_item`. Only disks that concern passes are in the index by name."""
    return {
        "pk": DISKS,
        "sk": disk.id,
        "version": disk.version + 1,
        "owner": disk.owner,
        "held": disk.name,
        "body": _encode(disk),
        BY_OWNER_AND_NAME: joined(disk.owner, disk.name),
        BY_NAME: disk.id if disk.concerns_passes else None,
    }


def disk_of(item: Item) -> Disk:
    """The record of an item."""
    return replace(_disk.decode(item["body"]), version=item["version"])


def snapshot_key(disk_id: str, snapshot_id: str) -> Key:
    """The key of a snapshot's item."""
    return SNAPSHOTS, joined(disk_id, snapshot_id)


def snapshot_item(record: SnapshotRecord) -> Item:
    """The item of a snapshot, by number in the index by order."""
    partition, key = snapshot_key(record.disk_id, record.id)
    return {"pk": partition, "sk": key, "body": _encode(record), BY_ORDER: joined(record.disk_id, record.number)}


def snapshot_of(item: Item) -> SnapshotRecord:
    """The record of an item."""
    return _snapshot.decode(item["body"])


def plan_of(pool: Item) -> PoolDocument:
    """The stored plan; an empty one if there is none, or one that cannot be read: the next pass makes it again."""
    try:
        return decode_document(pool["plan"]) if "plan" in pool else PoolDocument()
    except ValueError:
        return PoolDocument()


def user_item(user: User) -> Item:
    """As `reservation_item`. Only held users are in the index by name."""
    claimed = user.claimed_by or None
    return {
        "pk": USERS,
        "sk": user.principal,
        "version": user.version + 1,
        "body": _encode(user),
        BY_NAME: user.principal if claimed else None,
    }


def user_of(item: Item) -> User:
    """The record of an item."""
    return replace(_user.decode(item["body"]), version=item["version"])


def document_item(document: Document) -> Item:
    """As `reservation_item`. The version is also in the index by order, which has no bodies."""
    version = document.version + 1
    return {
        "pk": DOCUMENTS,
        "sk": document.name,
        "version": version,
        "body": document.body,
        BY_ORDER: joined(version),
    }


def document_of(item: Item) -> Document:
    """The document of an item."""
    return Document(name=item["sk"], version=item["version"], body=item["body"])


def events_key(subject: Subject) -> tuple[str, tuple[str, ...]]:
    """The partition of the events of a subject, and what their sort keys begin with.

    A reservation has a partition of its own. Disks, nodes and users have few events; those of a kind are together, so
    that old ones are found.
    """
    if subject.kind is SubjectKind.RESERVATION:
        return f"events {subject.kind} {subject.id}", ()
    return f"events {subject.kind}", (subject.id,)


def events_item(events: Sequence[AuditEvent], number: int, first_us: int) -> Item:
    """The item of the events of one change about one subject.

    Args:
        events: in order.
        number: larger than those of earlier changes.
        first_us: when the first one was.
    """
    partition, prefix = events_key(events[0].subject)
    by_time = joined(first_us) if prefix else None
    return {"pk": partition, "sk": joined(*prefix, number), "events": list(map(_encode, events)), BY_ORDER: by_time}


def event_of(body: bytes) -> AuditEvent:
    """The event of a body."""
    return _event.decode(body)


def request_item(request: RequestRecord, received_us: int) -> Item:
    """The item of a request, in the order of arrival in the index by order."""
    return {"pk": "requests", "sk": request.id, "body": _encode(request), BY_ORDER: joined(received_us)}


def request_of(item: Item) -> RequestRecord:
    """The record of an item."""
    return _request.decode(item["body"])


def anchor_item(anchor: ClockAnchor) -> Item:
    """The item of the clock anchor."""
    return {"pk": "clock", "sk": "anchor", "body": _encode(anchor)}


def anchor_of(item: Item) -> ClockAnchor:
    """The record of an item."""
    return _anchor.decode(item["body"])
