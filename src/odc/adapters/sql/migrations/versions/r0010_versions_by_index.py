"""An index that has the ids and versions of the live reservations, which each pass reads."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the index of the live reservations cover the query of passes."""
    op.drop_index("reservations_live", "reservations")
    op.create_index(
        "reservations_live",
        "reservations",
        ["place", "id", "version"],
        sqlite_where=sa.text("live = 1"),
        postgresql_where=sa.text("live"),
    )
