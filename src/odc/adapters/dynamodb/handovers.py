"""Gives the ended reservations of a deleted user to another principal, in steps.

The transaction that deletes the user writes an intent, since the ended reservations may be more than a transaction
holds. They are given right afterwards; after a crash, by the next `observe` of any process.
"""

from __future__ import annotations

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.errors import mapped
from odc.adapters.dynamodb.table import AFTER_ALL, BY_OWNER, SEPARATOR, Item, Table, joined, to_wire
from odc.domain.errors import Conflict


def finish_handovers(table: Table) -> None:
    """Carry out every intent, and delete it. Repeatable, and by several processes at once.

    Cost: one read if there is none.
    """
    for intent in list(table.query("handovers")):
        principal = intent["sk"].partition(SEPARATOR)[0]
        # Later ones are of somebody who has the same uid since.
        between = (joined(principal, 0), joined(principal, intent["place"]))
        for item in list(table.query(items.ENDED, between, index=BY_OWNER)):
            _give(table, item, intent["to"])
        table.delete([(intent["pk"], intent["sk"])])


def _give(table: Table, item: Item, to: str) -> None:
    changed = items.owner_attributes(to, item["record_name"], item["place"])
    names = {f"#{number}": name for number, name in enumerate(changed)}
    values = {f":{number}": value for number, value in enumerate(changed.values())}
    update = ", ".join(f"#{number} = :{number}" for number in range(len(changed)))
    try:
        with mapped():
            table.client.update_item(
                TableName=table.name,
                Key=to_wire({"pk": item["pk"], "sk": item["sk"]}),
                UpdateExpression=f"SET {update}, version = version + :one",
                ConditionExpression="version = :version",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=to_wire(values | {":one": 1, ":version": item["version"]}),
            )
    except Conflict:
        return  # another process has given it


def has_all(owner: str) -> tuple[str, str]:
    """First and last sort key of everything of an owner in the index by owner."""
    return joined(owner, ""), joined(owner, AFTER_ALL)
