"""The files in `~/.gpu-dev` that follow the user's live reservations: entries for ssh, and the cached list.

The list is shown while the daemon does not answer. `list.json` is as old as the last command that read it unchanged.
Commands that write them call this module; queries are in `reservation_lookup.py` and `ssh_setup.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
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


@dataclass(frozen=True, slots=True)
class EntryFacts:
    """What entries for ssh are made of, besides the views. Reading it takes requests and calls of ssh.

    Attributes:
        asked_at: when the views were requested, in seconds since 1970.
        keys: the keys to name, and other lines for each block.
        own: which of some names are hosts of the user's own; asked only once for the same names.
    """

    asked_at: float
    keys: ssh_identities.Identities
    own: ssh_files.Own


def read_facts(session: Session, views: Sequence[ReservationView]) -> EntryFacts:
    """Return what the entries of these reservations, just read, are made of. Raises as `read_identity` does."""
    asked_at = session.client().asked_at
    keys = identities(session, views, session.folder)
    if any(map(ssh_files.has_boxes, views)):
        keys = keys.after(_overrides(session))

    @cache
    def find_own(names: tuple[str, ...]) -> Collection[str]:
        return ssh_setup.own_hosts(session, names)

    return EntryFacts(asked_at, keys, lambda names: find_own(tuple(names)))


def sync(session: Session) -> tuple[ReservationView, ...]:
    """Read the user's live reservations and write the local files from them.

    Raises:
        ProviderUnavailable: the daemon does not answer; nothing was written.
    """
    views = session.client().reservations().reservations
    update(session, views)
    return views


def update_ssh_files(session: Session, views: Sequence[ReservationView], facts: EntryFacts | None = None) -> bool:
    """Write the entries of these reservations into the user's own folder, and remove those of ended ones.

    Args:
        session: the command's.
        views: all of the user's live reservations, as they were just read.
        facts: what the entries are made of; None: it is read.

    Returns:
        False if the folder cannot be written; a note says why, and the command continues.
    """

    def write() -> None:
        known = facts or read_facts(session, views)
        rules = ssh_files.NameRules(known.own, session.current_endpoint)
        ssh_files.sync(session.folder, views, session.endpoint, known.asked_at, known.keys, rules)

    return _written(session, write)


def update_entry(session: Session, view: ReservationView, facts: EntryFacts) -> None:
    """Write the entry of one reservation again, whose boxes have got an address, and the cached list.

    Args:
        session: the command's.
        view: the reservation.
        facts: what its entry was made of.
    """

    def write() -> None:
        rules = ssh_files.NameRules(facts.own, session.current_endpoint)
        ssh_files.rewrite(session.folder, view, session.endpoint, facts.keys, rules)

    if _written(session, write):
        cache_view(session, view)


def cache_view(session: Session, view: ReservationView) -> None:
    """Replace one reservation in the cached list; the others stay as they were read last, and so does its time."""
    found = find_cached(session)
    if found is None:
        return
    cache_list(session, [view if other.id == view.id else other for other in found[1]])
    with contextlib.suppress(OSError):
        os.utime(session.folder / FILE, (found[0].timestamp(),) * 2)


def _written(session: Session, write: Callable[[], None]) -> bool:
    """Write entries; False if that is not possible, which a note has said."""
    blocked = ssh_setup.unreadable(session)
    if blocked is not None:
        session.note_once(
            f"ssh cannot read {blocked.path}, so it does not know your boxes by name. Repair it: {blocked.repair}"
        )
    try:
        write()
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
    if not any(map(ssh_files.has_boxes, views)):
        return ssh_identities.NONE
    try:
        accepted = [key.key for key in session.client().me().keys if key.key]
    except OdcError:
        accepted = []
    homes = list(dict.fromkeys([session.home, session.account_home or session.home]))
    return ssh_identities.identities(homes, read_identity(session.folder), accepted, folder)


def update(session: Session, views: Sequence[ReservationView], facts: EntryFacts | None = None) -> None:
    """Write the SSH configuration files and the cached list from the user's live reservations.

    Cost: the list is written only if it has changed; otherwise only its modification time is updated.

    Args:
        session: the command's.
        views: all of them, as they were just read.
        facts: what the entries are made of, if that is known.
    """
    if update_ssh_files(session, views, facts):
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
