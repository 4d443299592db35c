"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_PLACE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    _make_reservations()
    _make_disks_and_users()
    _make_history()
    _make_coordination()


def _make_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("place", _PLACE, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("held_name", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("reservations_id", "reservations", ["id"], unique=True)
    op.create_index("reservations_held_name", "reservations", ["owner", "held_name"], unique=True)
    op.create_index("reservations_owner", "reservations", ["owner", "place"])
    op.create_index(
        "reservations_live",
        "reservations",
        ["place"],
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )


def _make_disks_and_users() -> None:
    op.create_table(
        "disks",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("disks_name", "disks", ["owner", "name"], unique=True)
    op.create_table(
        "users",
        sa.Column("principal", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def _make_history() -> None:
    """Events, and the requests that were answered."""
    op.create_table(
        "events",
        sa.Column("place", _PLACE, primary_key=True, autoincrement=True),
        sa.Column("reservation_id", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("events_reservation", "events", ["reservation_id", "place"])
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def _make_coordination() -> None:
    """The versions of pools, the leases, and the clock's anchor."""
    op.create_table(
        "pools",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
