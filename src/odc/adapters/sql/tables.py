"""The tables. Columns have the fields that queries compare; `body` has the whole record as JSON.

The migrations next to this file make and change the schema; nothing here does.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()


def _reservations_index(name: str, *columns: str, live: bool) -> sa.Index:
    """An index of the live reservations only, or of the ended ones only: lists are of one kind."""
    number = f"live = {int(live)}"
    return sa.Index(
        name, *columns, sqlite_where=sa.text(number), postgresql_where=sa.text("live" if live else "NOT live")
    )


pools = sa.Table(
    "pools",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("plan", sa.LargeBinary),
)

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("place", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("held_name", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("reservations_id", "id", unique=True),
    sa.Index("reservations_held_name", "owner", "held_name", unique=True),
    _reservations_index("reservations_live", "place", "id", "version", live=True),
    _reservations_index("reservations_ended", "place", live=False),
    _reservations_index("reservations_owner_live", "owner", "place", live=True),
    _reservations_index("reservations_owner_ended", "owner", "place", live=False),
    _reservations_index("reservations_name_live", "name", "place", live=True),
    _reservations_index("reservations_name_ended", "name", "place", live=False),
    _reservations_index("reservations_owner_name_live", "owner", "name", "place", live=True),
    _reservations_index("reservations_owner_name_ended", "owner", "name", "place", live=False),
    sqlite_autoincrement=True,
)

secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("reservation_id", sa.Text, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

disks = sa.Table(
    "disks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("concerns_passes", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index("disks_name", "owner", "name", unique=True),
    sa.Index(
        "disks_passes",
        "id",
        sqlite_where=sa.text("concerns_passes = 1"),
        postgresql_where=sa.text("concerns_passes"),
    ),
)

snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("disk_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("snapshots_number", "disk_id", "number"),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("principal", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("claimed_by", sa.Text),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index(
        "users_claimed",
        "principal",
        sqlite_where=sa.text("claimed_by IS NOT NULL"),
        postgresql_where=sa.text("claimed_by IS NOT NULL"),
    ),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("place", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("subject_id", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("subject_kind", sa.Text, nullable=False, server_default="reservation"),
    sa.Index("events_subject", "subject_kind", "subject_id", "place"),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("received_us", sa.BigInteger, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("requests_received", "received_us"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until_us", sa.BigInteger, nullable=False),
)

clock = sa.Table(
    "clock",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
