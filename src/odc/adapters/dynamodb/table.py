"""One DynamoDB table: keys, items and strongly consistent reads. It knows no record.

Every item has a partition `pk` and a sort key `sk`. Four local indexes sort a partition by other attributes; unlike
global ones they can be read with strong consistency. An item without the attribute is not in the index.

| partition | sort key | item |
|---|---|---|
| `pools` | GPU type | plan version and plan |
| `live`, `ended` | reservation's id | the record; it moves from one to the other in one transaction |
| `secrets` | reservation's id | the record |
| `disks` | disk's id | the record |
| `snapshots` | disk's and snapshot's id | the record |
| `users` | principal | the record |
| `events reservation ID` | sequence number | the events of one change about that reservation |
| `events KIND` | subject's id and sequence number | the events of one change about that disk, node or user |
| `names OWNER` | kind and name | the id of the reservation or disk that has the name |
| `documents` | name | the document; its version is in the index by order, which is read without the body |
| `requests` | request's id | the request with its answer |
| `leases`, `clock`, `sequence`, `handovers` | name | see `leases`, `transaction`, `handovers` |
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from odc.adapters.dynamodb.errors import mapped
from odc.domain.errors import ProviderUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]
Key = tuple[str, str]
BY_ORDER, BY_OWNER, BY_NAME, BY_OWNER_AND_NAME = "by_order", "by_owner", "by_name", "by_owner_and_name"
INDEXES = (BY_ORDER, BY_OWNER, BY_NAME, BY_OWNER_AND_NAME)
"""The local indexes; each is named as the attribute that it sorts by."""
SEPARATOR = "\x1f"
"""Between the parts of a sort key. It sorts before every character of a name, so that keys sort as their parts do."""
AFTER_ALL = "\U0010ffff"
"""Sorts after everything that continues a sort key."""
MAX_KEY_BYTES = 1000
"""DynamoDB takes sort keys up to 1024 bytes."""
_BATCH = 100
_TRIES = 8


def joined(*parts: str | int) -> str:
    """The parts as one sort key; numbers sort as numbers."""
    return SEPARATOR.join(f"{part:016d}" if isinstance(part, int) else part for part in parts)


def is_key(text: str) -> bool:
    """Whether a text can be a part of a sort key; no name that cannot was ever stored."""
    return SEPARATOR not in text and len(text.encode(errors="surrogatepass")) < MAX_KEY_BYTES and text.isprintable()


def to_wire(values: Mapping[str, Any]) -> dict[str, Any]:
    """An item as DynamoDB's client takes it; attributes that are None are left out."""
    return {name: _to_wire(value) for name, value in values.items() if value is not None}


def _to_wire(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case _:
            return {"L": [_to_wire(part) for part in value]}


def from_wire(item: Mapping[str, Any]) -> Item:
    """An item as plain values: texts, integers, bytes, and lists of them."""
    return {name: _from_wire(value) for name, value in item.items()}


def _from_wire(value: Mapping[str, Any]) -> Any:
    ((kind, plain),) = value.items()
    if kind == "L":
        return [_from_wire(part) for part in plain]
    return int(plain) if kind == "N" else plain


class Table:
    """The table. May be used by several threads at once. Every method raises as `errors.mapped`."""

    def __init__(self, client: DynamoDBClient, name: str) -> None:
        self.client = client
        self.name = name

    def create(self) -> None:
        """Create the table, and wait until it can be used. One that exists is left as it is."""
        keys = ("pk", "sk", *INDEXES)
        with mapped():
            with contextlib.suppress(self.client.exceptions.ResourceInUseException):
                self.client.create_table(
                    TableName=self.name,
                    BillingMode="PAY_PER_REQUEST",
                    AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
                    KeySchema=_schema("sk"),
                    LocalSecondaryIndexes=[
                        {"IndexName": name, "KeySchema": _schema(name), "Projection": {"ProjectionType": "KEYS_ONLY"}}
                        for name in INDEXES
                    ],
                )
            self.client.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 1})

    def get(self, partition: str, key: str) -> Item | None:
        """The item, or None."""
        with mapped():
            answer = self.client.get_item(
                TableName=self.name, Key=to_wire({"pk": partition, "sk": key}), ConsistentRead=True
            )
        return from_wire(answer["Item"]) if "Item" in answer else None

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """The items that exist, by key."""
        wanted = sorted(set(keys))
        found: dict[Key, Item] = {}
        for begin in range(0, len(wanted), _BATCH):
            for item in self._batch(wanted[begin : begin + _BATCH]):
                found[item["pk"], item["sk"]] = item
        return found

    def _batch(self, keys: list[Key]) -> Iterator[Item]:
        left: Any = {self.name: {"Keys": [to_wire({"pk": p, "sk": s}) for p, s in keys], "ConsistentRead": True}}
        for tries in range(_TRIES):
            with mapped():
                answer = self.client.batch_get_item(RequestItems=left)
            yield from map(from_wire, answer["Responses"].get(self.name, ()))
            left = answer.get("UnprocessedKeys")
            if not left:
                return
            time.sleep(random.uniform(0, 0.05 * 2**tries))  # noqa: S311  # no secret
        raise ProviderUnavailable("the table of records is throttled: some records could not be read")

    def query(
        self,
        partition: str,
        between: tuple[str, str] | None = None,
        *,
        index: str = "",
        newest: bool = False,
        limit: int | None = None,
        owner: str | None = None,
    ) -> Iterator[Item]:
        """Yield the items of a partition in the order of the sort key.

        Args:
            partition: of the items.
            between: first and last sort key, both included; None: all.
            index: sort by this index; empty: by `sk`.
            newest: in descending order.
            limit: how many items are read at once, if the caller needs few.
            owner: only items with this owner.
        """
        condition, values = "pk = :pk", {":pk": partition}
        if between is not None:
            condition += f" AND {index or 'sk'} BETWEEN :first AND :last"
            values |= {":first": between[0], ":last": between[1]}
            if between[0] > between[1]:
                return
        asked: dict[str, Any] = {"TableName": self.name, "KeyConditionExpression": condition, "ConsistentRead": True}
        asked |= {"ScanIndexForward": not newest, "Select": "ALL_ATTRIBUTES"}
        asked |= {"IndexName": index} if index else {}
        asked |= {"Limit": limit} if limit else {}
        if owner is not None:
            asked["FilterExpression"], values[":owner"] = "#owner = :owner", owner
            asked["ExpressionAttributeNames"] = {"#owner": "owner"}
        asked["ExpressionAttributeValues"] = to_wire(values)
        yield from self._pages(asked)

    def query_keys(self, partition: str, index: str) -> Iterator[Item]:
        """Yield the keys of the items of a partition, with the attribute of the index by which they are sorted.

        That costs little for large items: the index does not have them.
        """
        yield from self._pages(
            {
                "TableName": self.name,
                "IndexName": index,
                "KeyConditionExpression": "pk = :pk",
                "ExpressionAttributeValues": to_wire({":pk": partition}),
                "ConsistentRead": True,
                "Select": "ALL_PROJECTED_ATTRIBUTES",
            }
        )

    def _pages(self, asked: dict[str, Any]) -> Iterator[Item]:
        while True:
            with mapped():
                answer = self.client.query(**asked)
            yield from map(from_wire, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def next_number(self, count: int = 1) -> int:
        """Reserve numbers that no other caller gets, larger than all before; the first of them.

        A number that is not used leaves a gap.
        """
        with mapped():
            answer = self.client.update_item(
                TableName=self.name,
                Key=to_wire({"pk": "sequence", "sk": "sequence"}),
                UpdateExpression="ADD next_number :count",
                ExpressionAttributeValues=to_wire({":count": count}),
                ReturnValues="UPDATED_NEW",
            )
        last: int = from_wire(answer["Attributes"])["next_number"]
        return last - count + 1

    def delete(self, keys: Iterable[Key]) -> None:
        """Delete items, one after the other; those that do not exist are left out."""
        for partition, key in keys:
            with mapped():
                self.client.delete_item(TableName=self.name, Key=to_wire({"pk": partition, "sk": key}))


def _schema(sort_key: str) -> Any:
    return [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": sort_key, "KeyType": "RANGE"}]
