"""An index for each list of reservations."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_COLUMNS = {"": ["place"], "_owner": ["owner", "place"], "_name": ["name", "place"]}
_COLUMNS["_owner_name"] = ["owner", "name", "place"]


def upgrade() -> None:
    """Replace the index of everything of an owner by indexes of the live and of the ended reservations."""
    op.drop_index("reservations_owner", "reservations")
    for prefix, columns in _COLUMNS.items():
        if prefix:
            _index(f"reservations{prefix}_live", columns, "live = 1", "live")
        _index(f"reservations{prefix}_ended", columns, "live = 0", "NOT live")


def _index(name: str, columns: list[str], sqlite: str, postgresql: str) -> None:
    op.create_index(name, "reservations", columns, sqlite_where=sa.text(sqlite), postgresql_where=sa.text(postgresql))
