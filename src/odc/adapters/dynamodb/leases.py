"""Leases and the clock anchor in DynamoDB."""

from __future__ import annotations

from datetime import datetime, timedelta

from odc.adapters.dynamodb import items
from odc.adapters.dynamodb.errors import mapped
from odc.adapters.dynamodb.table import Table, from_wire, to_wire
from odc.adapters.dynamodb.transaction import micros
from odc.domain.errors import Conflict
from odc.domain.records import ClockAnchor


class DynamoLeases:
    """See `odc.ports.leases`."""

    _table: Table

    def acquire_lease(self, name: str, holder: str, now: datetime, length: timedelta) -> bool:
        """Take or renew the lease."""
        values = {":holder": holder, ":now": micros(now), ":until": micros(now + length)}
        try:
            with mapped():
                self._table.client.update_item(
                    TableName=self._table.name,
                    Key=to_wire({"pk": "leases", "sk": name}),
                    UpdateExpression="SET holder = :holder, until_us = :until",
                    ConditionExpression="attribute_not_exists(pk) OR holder = :holder OR until_us <= :now",
                    ExpressionAttributeValues=to_wire(values),
                )
        except Conflict:
            return False
        return True

    def expire_lease(self, name: str) -> None:
        """End the lease."""
        self._table.delete([("leases", name)])

    def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
        """Return the stored anchor; a given one replaces it."""
        if anchor is None:
            found = self._table.get("clock", "anchor")
            return items.anchor_of(found) if found else None
        with mapped():
            answer = self._table.client.put_item(
                TableName=self._table.name, Item=to_wire(items.anchor_item(anchor)), ReturnValues="ALL_OLD"
            )
        return items.anchor_of(from_wire(answer["Attributes"])) if "Attributes" in answer else None
