"""Events of other things than reservations."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the kind of the subject: all events that are stored already are of reservations."""
    op.drop_index("events_reservation", "events")
    # Both databases know this statement; alembic would copy SQLite's whole table.
    op.execute(sa.text("ALTER TABLE events RENAME COLUMN reservation_id TO subject_id"))
    op.add_column("events", sa.Column("subject_kind", sa.Text, nullable=False, server_default="reservation"))
    op.create_index("events_subject", "events", ["subject_kind", "subject_id", "place"])
