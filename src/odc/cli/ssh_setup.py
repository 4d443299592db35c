"""How ssh on this machine resolves a reservation's name: queries, which write nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from odc.api.messages.reservations import ReservationView
from odc.cli import ssh_files, ssh_include, ssh_names
from odc.cli.context import Session
from odc.domain.commands import gpu_dev

_MACHINE_HOSTS = Path("/etc/hosts")
_MACHINE_FOLDER = Path("/etc/ssh/ssh_config.d")


def own_hosts(session: Session, names: Sequence[str]) -> dict[str, str]:
    """Return those of these names that are hosts of the user's own, with the place: `~/.ssh/config:12`.

    A host is in the user's or the machine's configuration, among the hosts that the user has connected to, or in
    `/etc/hosts`.
    """
    home = session.account_home
    if home is None:
        return {}
    from odc.cli import ssh_settings

    found = ssh_settings.machine_hosts(_MACHINE_HOSTS, names)
    found |= ssh_settings.known_hosts(home / ".ssh" / "known_hosts", names)
    if any(map(ssh_include.names_hosts, (ssh_include.ssh_file(home), *_MACHINE_FOLDER.glob("*.conf")))):
        found |= ssh_settings.own_hosts(names, session.folder)
    return {name: place.shown(home) for name, place in found.items()}


def ssh_name(session: Session, view: ReservationView) -> str:
    """Return the name by which `ssh` reaches the reservation, tested with ssh itself; empty if none works."""
    entry = ssh_files.config_path(session.folder, view.id)
    name = ssh_names.ssh_name(entry)
    return name if ssh_include.is_known(name, view.id, entry) else ""


def names_command(session: Session, view: ReservationView) -> str:
    """Return the command that makes names known to ssh, or shows why they are not."""
    if blocked := unreadable(session):
        return blocked.repair
    if ssh_include.is_included(ssh_include.ssh_file(session.account_home or session.home)):
        return gpu_dev(f"connect {view.name} --diagnose")
    return ssh_include.ENABLE


def unreadable(session: Session) -> ssh_include.Unreadable | None:
    """Return why ssh cannot read the user's configuration; None if it can."""
    return ssh_include.unreadable(ssh_include.ssh_file(session.account_home or session.home))
