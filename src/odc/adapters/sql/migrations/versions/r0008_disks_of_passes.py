"""Which disks a pass reads."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_DISKS = sa.table(
    "disks", sa.column("id", sa.Text), sa.column("body", sa.LargeBinary), sa.column("concerns_passes", sa.Boolean)
)


def upgrade() -> None:
    """Add the column, with an index of the disks that have it set, and set it from the records."""
    op.add_column("disks", sa.Column("concerns_passes", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index(
        "disks_passes",
        "disks",
        ["id"],
        sqlite_where=sa.text("concerns_passes = 1"),
        postgresql_where=sa.text("concerns_passes"),
    )
    connection = op.get_bind()
    for row in list(connection.execute(sa.select(_DISKS.c.id, _DISKS.c.body))):
        disk = json.loads(row.body)
        if disk.get("holder") and (disk.get("successor") or disk.get("zone")):
            connection.execute(sa.update(_DISKS).where(_DISKS.c.id == row.id).values(concerns_passes=True))
