"""Snapshots in rows of their own. Until now each disk's record had all of them."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_DISKS = sa.table("disks", sa.column("id", sa.Text), sa.column("body", sa.LargeBinary))
_SNAPSHOTS = sa.table(
    "snapshots",
    sa.column("disk_id", sa.Text),
    sa.column("id", sa.Text),
    sa.column("number", sa.BigInteger),
    sa.column("body", sa.LargeBinary),
)


def upgrade() -> None:
    """Move the snapshots of every disk."""
    op.create_table(
        "snapshots",
        sa.Column("disk_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_index("snapshots_number", "snapshots", ["disk_id", "number"])
    connection = op.get_bind()
    for disk_id in list(connection.execute(sa.select(_DISKS.c.id)).scalars()):
        where = _DISKS.c.id == disk_id
        disk = json.loads(connection.execute(sa.select(_DISKS.c.body).where(where)).scalar_one())
        kept, deleting = disk.pop("snapshots", []), disk.pop("deleting", [])
        disk["snapshot_summary"] = _summary(kept, deleting)
        rows = _rows(disk_id, kept, deleting)
        if rows:
            connection.execute(sa.insert(_SNAPSHOTS), rows)
        connection.execute(sa.update(_DISKS).where(where).values(body=json.dumps(disk).encode()))


def _rows(disk_id: str, kept: list[Any], deleting: list[Any]) -> list[dict[str, Any]]:
    """The rows of one disk, oldest first: those that are being deleted are older than the others."""
    flagged = [(snapshot, True) for snapshot in deleting] + [(snapshot, False) for snapshot in kept]
    unique = {snapshot["id"]: (snapshot, flag) for snapshot, flag in flagged}
    rows = []
    for number, (snapshot, flag) in enumerate(unique.values(), start=1):
        record = {"disk_id": disk_id, "number": number, "snapshot": snapshot, "deleting": flag}
        rows.append({"disk_id": disk_id, "id": snapshot["id"], "number": number, "body": json.dumps(record).encode()})
    return rows


def _summary(kept: list[Any], deleting: list[Any]) -> dict[str, Any]:
    verified = [snapshot for snapshot in kept if snapshot.get("verified_at")]
    return {
        "count": len(kept),
        "deleting": len(deleting),
        "used_bytes": sum(snapshot.get("used_bytes", 0) for snapshot in kept),
        "oldest_at": kept[0]["taken_at"] if kept else None,
        "last": kept[-1] if kept else None,
        "last_verified": verified[-1] if verified else None,
        "next_number": len(kept) + len(deleting) + 1,
    }
