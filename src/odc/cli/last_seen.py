"""The user's live reservations as a command saw them last: the files for ssh follow, and the list is kept for a time
when the cloud does not answer. `~/.gpu-dev/list.json` is as old as the last look that found it so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from odc.api.messages import ReservationView
from odc.cli import ssh_files
from odc.cli.context import Session
from odc.cli.settings_file import write_whole
from odc.domain.errors import InvalidRequest

FILE = "list.json"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, and in which cloud."""

    endpoint: str
    reservations: tuple[ReservationView, ...]


def renew(session: Session, views: Sequence[ReservationView]) -> bool:
    """As `ssh_files.sync`, in the user's own folder. Where nothing can be written the command goes on and says so."""
    try:
        ssh_files.sync(session.folder, views, session.endpoint, session.client().asked_at)
    except OSError as error:
        reason = f"{error.filename or session.folder}: {error.strerror}"
    except InvalidRequest as error:
        reason = error.message
    else:
        return True
    session.note_once(f"ssh does not know your boxes by name here: {reason}")
    return False


def keep(session: Session, views: Sequence[ReservationView]) -> None:
    """Bring the files for ssh up to date with all of the user's live reservations, and keep the list of them.

    Cost: the file is written only if something is new; else only its time changes.
    """
    if not renew(session, views):
        return
    path = session.folder / FILE
    fresh = msgspec.json.encode(Kept(endpoint=session.endpoint, reservations=tuple(views)))
    try:
        if path.exists() and path.read_bytes() == fresh:
            os.utime(path)
        else:
            write_whole(path, fresh.decode())
    except OSError as error:
        session.note_once(f"The list cannot be kept for later: {error}")


def find_kept(session: Session) -> tuple[datetime, tuple[ReservationView, ...]] | None:
    """When this cloud was last seen, and the live reservations there then; None if it never was, or is not known."""
    path = session.folder / FILE
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        when = written_at(session, path)
    except (OSError, msgspec.MsgspecError):
        return None
    return (when, kept.reservations) if kept.endpoint == session.endpoint else None


def written_at(session: Session, path: Path) -> datetime:
    """When a file was written, in the user's zone."""
    now = session.now()
    return now.fromtimestamp(path.stat().st_mtime, now.tzinfo)
