"""Users whose uid another login has taken, and when each request came."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns. Requests that are stored already count from now: how old they are is not in a column."""
    op.add_column("users", sa.Column("claimed_by", sa.Text))
    claimed = sa.text("claimed_by IS NOT NULL")
    op.create_index("users_claimed", "users", ["principal"], sqlite_where=claimed, postgresql_where=claimed)
    now = str(time.time_ns() // 1000)
    op.add_column("requests", sa.Column("received_us", sa.BigInteger, nullable=False, server_default=sa.text(now)))
    op.create_index("requests_received", "requests", ["received_us"])
