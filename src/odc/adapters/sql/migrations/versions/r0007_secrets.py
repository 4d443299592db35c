"""Private host keys in rows of their own. Until now each reservation's record had one."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_BATCH = 500
_RESERVATIONS = sa.table(
    "reservations", sa.column("place", sa.BigInteger), sa.column("id", sa.Text), sa.column("body", sa.LargeBinary)
)
_SECRETS = sa.table("secrets", sa.column("reservation_id", sa.Text), sa.column("body", sa.LargeBinary))


def upgrade() -> None:
    """Move the private key of every reservation; the public one stays."""
    op.create_table(
        "secrets",
        sa.Column("reservation_id", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    connection = op.get_bind()
    for rows in _batches(connection):
        secrets = []
        for place, reservation_id, body in rows:
            record = json.loads(body)
            key = record.pop("host_key", None)
            if key is None:
                continue
            record["public_host_key"] = key["public"]
            changed = sa.update(_RESERVATIONS).where(_RESERVATIONS.c.place == place)
            connection.execute(changed.values(body=json.dumps(record).encode()))
            secret = {"reservation_id": reservation_id, "host_key": key["private"]}
            secrets.append({"reservation_id": reservation_id, "body": json.dumps(secret).encode()})
        if secrets:
            connection.execute(sa.insert(_SECRETS), secrets)


def _batches(connection: sa.Connection) -> Iterator[list[Any]]:
    """Yield place, id and body of all reservations, some at a time."""
    r, after = _RESERVATIONS.c, 0
    while True:
        query = sa.select(r.place, r.id, r.body).where(r.place > after).order_by(r.place).limit(_BATCH)
        rows = list(connection.execute(query))
        if not rows:
            return
        yield rows
        after = rows[-1].place
