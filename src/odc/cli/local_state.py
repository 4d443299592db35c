"""The files in `~/.gpu-dev` that follow the user's live reservations: entries for ssh, and the cached list.

The list is shown while the daemon does not answer. `list.json` is as old as the last command that read it unchanged.
Commands that write them call this module; queries are in `reservation_lookup.py` and `ssh_setup.py`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from odc.api.messages.reservations import ReservationView
from odc.cli import ssh_files, ssh_identities, ssh_names, ssh_newer_options, ssh_setup
from odc.cli.context import Session
from odc.cli.settings_file import read_identity
from odc.domain.errors import InvalidRequest, OdcError
from odc.host import write_atomically

FILE = "list.json"


class CachedList(msgspec.Struct, frozen=True, kw_only=True):
    """The user's live reservations of a cloud, as this machine read them; other machines may share the home."""

    endpoint: str
    machine: str = ""
    reservations: tuple[ReservationView, ...]


def sync(session: Session) -> tuple[ReservationView, ...]:
    """Read the user's live reservations and write the local files from them.

    Raises:
        ProviderUnavailable: the daemon does not answer; nothing was written.
    """
    views = session.client().reservations().reservations
    update(session, views)
    return views


def update_ssh_files(session: Session, views: Sequence[ReservationView]) -> bool:
    """Write the entries of these reservations into the user's own folder, and remove those of ended ones.

    Returns:
        False if the folder cannot be written; a note says why, and the command continues.
    """
    asked_at = session.client().asked_at
    blocked = ssh_setup.unreadable(session)
    if blocked is not None:
        session.note_once(
            f"ssh cannot read {blocked.path}, so it does not know your boxes by name. Repair it: {blocked.repair}"
        )

    def own(names: Sequence[str]) -> Collection[str]:
        return ssh_setup.own_hosts(session, names)

    try:
        keys = identities(session, views, session.folder)
        if any(map(ssh_files.is_reachable, views)):
            keys = keys.after(_overrides(session))
        rules = ssh_files.NameRules(own, session.current_endpoint)
        ssh_files.sync(session.folder, views, session.endpoint, asked_at, keys, rules)
    except OSError as error:
        reason = f"{error.filename or session.folder}: {error.strerror}"
    except InvalidRequest as error:
        reason = error.message
    else:
        return True
    if blocked is None:
        session.note_once(f"ssh does not know your boxes by name here: {reason}")
    return False


def write_entry(session: Session, view: ReservationView, folder: Path) -> None:
    """Write the SSH configuration of one reservation into a folder other than the user's own."""
    try:
        keys = identities(session, (view,), folder)
    except InvalidRequest:
        keys = ssh_identities.NONE
    ssh_files.write_entry(folder, view, session.endpoint, keys.after(_overrides(session)))


def _overrides(session: Session) -> str:
    return ssh_newer_options.override_lines(session.account_home or session.home, session.folder)


def identities(session: Session, views: Sequence[ReservationView], folder: Path) -> ssh_identities.Identities:
    """Return the keys for the entries of these reservations in a folder. Raises as `read_identity` does."""
    if not any(map(ssh_files.is_reachable, views)):
        return ssh_identities.NONE
    try:
        accepted = [key.key for key in session.client().me().keys if key.key]
    except OdcError:
        accepted = []
    homes = list(dict.fromkeys([session.home, session.account_home or session.home]))
    return ssh_identities.identities(homes, read_identity(session.folder), accepted, folder)


def update(session: Session, views: Sequence[ReservationView]) -> None:
    """Write the SSH configuration files and the cached list from the user's live reservations, which were just read.

    Cost: the list is written only if it has changed; otherwise only its modification time is updated.
    """
    if update_ssh_files(session, views):
        cache_list(session, views)


def cache_list(session: Session, views: Sequence[ReservationView]) -> None:
    """Write the cached list alone."""
    path = session.folder / FILE
    fresh = msgspec.json.encode(
        CachedList(endpoint=session.endpoint, machine=ssh_names.machine_id(), reservations=tuple(views))
    )
    try:
        if path.exists() and path.read_bytes() == fresh:
            os.utime(path)
        else:
            write_atomically(path, fresh)
    except OSError as error:
        session.note_once(f"The list cannot be cached: {error}")


def find_cached(session: Session) -> tuple[datetime, tuple[ReservationView, ...]] | None:
    """Return the time and contents of this cloud's cached list; None if there is none."""
    path = session.folder / FILE
    try:
        cached = msgspec.json.decode(path.read_bytes(), type=CachedList)
        when = written_at(session, path)
    except (OSError, msgspec.MsgspecError):
        return None
    is_of_here = cached.endpoint == session.endpoint and cached.machine in ("", ssh_names.machine_id())
    return (when, cached.reservations) if is_of_here else None


def written_at(session: Session, path: Path) -> datetime:
    """Return when a file was written, in the user's zone."""
    now = session.now()
    return now.fromtimestamp(path.stat().st_mtime, now.tzinfo)
