"""The user's live reservations as a command saw them last: the files for ssh follow, and the list is kept for a time
when the cloud does not answer. `~/.gpu-dev/list.json` is as old as the last look that found it so.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from odc.api.messages.reservations import ReservationView
from odc.cli import ssh_files, ssh_identities, ssh_include, ssh_names, ssh_newer_options
from odc.cli.context import Session
from odc.cli.settings_file import read_identity
from odc.domain.errors import InvalidRequest, OdcError
from odc.host import write_atomically

FILE = "list.json"
_OF_THE_MACHINE = Path("/etc/ssh/ssh_config.d")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, in which cloud, and from which machine; other machines may share the home."""

    endpoint: str
    machine: str = ""
    reservations: tuple[ReservationView, ...]


def renew(session: Session, views: Sequence[ReservationView]) -> bool:
    """As `ssh_files.sync`, in the user's own folder. Where nothing can be written the command goes on and says so."""
    asked_at = session.client().asked_at
    blocked = unreadable(session)
    if blocked is not None:
        session.note_once(
            f"ssh cannot read {blocked.path}, so it does not know your boxes by name. Repair it: {blocked.repair}"
        )

    def own(names: Sequence[str]) -> Collection[str]:
        return own_hosts(session, names)

    try:
        keys = identities(session, views, session.folder)
        if any(map(ssh_files.is_reachable, views)):
            keys = keys.after(_overrides(session))
        ssh_files.sync(session.folder, views, session.endpoint, asked_at, keys, own)
    except OSError as error:
        reason = f"{error.filename or session.folder}: {error.strerror}"
    except InvalidRequest as error:
        reason = error.message
    else:
        return True
    if blocked is None:
        session.note_once(f"ssh does not know your boxes by name here: {reason}")
    return False


def unreadable(session: Session) -> ssh_include.Unreadable | None:
    """What keeps ssh from reading the user's configuration; None if nothing does."""
    return ssh_include.unreadable(ssh_include.ssh_file(session.account_home or session.home))


def write_entry(session: Session, view: ReservationView, folder: Path) -> None:
    """Write what ssh must know of a reservation into another folder than the user's own."""
    try:
        keys = identities(session, (view,), folder)
    except InvalidRequest:
        keys = ssh_identities.NONE
    ssh_files.write_entry(folder, view, session.endpoint, keys.after(_overrides(session)))


def _overrides(session: Session) -> str:
    return ssh_newer_options.override_lines(session.account_home or session.home, session.folder)


def identities(session: Session, views: Sequence[ReservationView], folder: Path) -> ssh_identities.Identities:
    """The keys to name in the entries of these reservations in a folder. Raises as `read_identity` does."""
    if not any(map(ssh_files.is_reachable, views)):
        return ssh_identities.NONE
    try:
        accepted = [key.key for key in session.client().me().keys if key.key]
    except OdcError:
        accepted = []
    homes = list(dict.fromkeys([session.home, session.account_home or session.home]))
    return ssh_identities.identities(homes, read_identity(session.folder), accepted, folder)


def own_hosts(session: Session, names: Sequence[str]) -> dict[str, str]:
    """Which of these names are hosts of the user's own, and where ssh has them: `~/.ssh/config:12`.

    A host is in the user's or the machine's configuration, or among the hosts that the user has connected to.
    """
    home = session.account_home
    if home is None:
        return {}
    from odc.cli import ssh_settings

    found = ssh_settings.known_hosts(home / ".ssh" / "known_hosts", names)
    if any(map(ssh_include.names_hosts, (ssh_include.ssh_file(home), *_OF_THE_MACHINE.glob("*.conf")))):
        found |= ssh_settings.own_hosts(names, session.folder)
    return {name: place.shown(home) for name, place in found.items()}


def ssh_name(session: Session, view: ReservationView) -> str:
    """The name by which `ssh` reaches the reservation, tried with ssh itself; empty if none works."""
    name = ssh_names.ssh_name(ssh_files.config_path(session.folder, view.id))
    return name if ssh_include.is_known(name, view.id) else ""


def way_to_names(session: Session, view: ReservationView) -> str:
    """The command that makes names known to ssh, or says why they are not."""
    if blocked := unreadable(session):
        return blocked.repair
    if ssh_include.is_included(ssh_include.ssh_file(session.account_home or session.home)):
        return f"gpu-dev connect {view.name} --diagnose"
    return ssh_include.ENABLE


def keep(session: Session, views: Sequence[ReservationView]) -> None:
    """Bring the files for ssh up to date with all of the user's live reservations, and keep the list of them.

    Cost: the file is written only if something is new; else only its time changes.
    """
    if not renew(session, views):
        return
    path = session.folder / FILE
    fresh = msgspec.json.encode(
        Kept(endpoint=session.endpoint, machine=ssh_names.machine_id(), reservations=tuple(views))
    )
    try:
        if path.exists() and path.read_bytes() == fresh:
            os.utime(path)
        else:
            write_atomically(path, fresh)
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
    is_of_here = kept.endpoint == session.endpoint and kept.machine in ("", ssh_names.machine_id())
    return (when, kept.reservations) if is_of_here else None


def written_at(session: Session, path: Path) -> datetime:
    """When a file was written, in the user's zone."""
    now = session.now()
    return now.fromtimestamp(path.stat().st_mtime, now.tzinfo)
