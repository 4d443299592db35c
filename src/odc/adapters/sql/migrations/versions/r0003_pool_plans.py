"""The plan of each pool."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column. The slots that 0.1.0 kept in reservations are held by the first plan that is made."""
    op.add_column("pools", sa.Column("plan", sa.LargeBinary))
