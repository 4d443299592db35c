"""A state folder belongs to one cloud, which is named in it.

Containers, networks, the systemd unit, simulated GPUs and firewall rules carry the cloud's name; the state folder has
the records that describe them. Settings that name the folder and another cloud, such as a renamed or copied file, would
take live boxes for strangers' and lend their GPUs again, so every `odc` command refuses them.
"""

from __future__ import annotations

from pathlib import Path

from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest
from odc.host import write_atomically
from odc.operator.daemon_state import running_settings
from odc.operator.settings import Settings
from odc.operator.settings_check import as_toml


def owner_of(state: Path) -> str | None:
    """Return the cloud that a state folder belongs to; None for a folder without a cloud, or an unreadable one."""
    try:
        return _owner_file(state).read_text().strip() or None
    except OSError:
        # Version 0.1.0 noted its settings only.
        last = running_settings(state)
        return last.cloud if last else None


def note_owner(state: Path, cloud: str) -> None:
    """Write down whose the folder is, durably."""
    path = _owner_file(state)
    if path.exists() and owner_of(state) == cloud:
        return
    write_atomically(path, f"{cloud}\n".encode(), 0o644, durable=True)


def _owner_file(state: Path) -> Path:
    return state / "cloud"


def check_owner(settings: Settings) -> None:
    """Refuse a state folder that belongs to a cloud of another name.

    Raises:
        InvalidRequest: it does, with the ways to go on. Nothing was changed.
    """
    state = settings.state_folder
    owner = owner_of(state)
    if owner is None or owner == settings.cloud:
        return
    raise InvalidRequest(
        f'the state folder {state} belongs to the cloud "{owner}", but the settings say cloud = "{settings.cloud}"',
        ("keep the name", f'cloud = "{owner}" in the settings'),
        (
            "a second cloud",
            f'state = "{state}-{settings.cloud}" in the settings, and its own socket, ports, network',
        ),
        ("rename it", "with the old name: " + odc("down --all") + "; then: " + odc(f"rename {settings.cloud}")),
    )


def check_cluster(last: Settings, settings: Settings) -> None:
    """Refuse another cluster for a cloud than the one where its boxes and disks are.

    Args:
        last: the settings of the running daemon, or of the last one.
        settings: the new ones.

    Raises:
        InvalidRequest: it is another one, with the ways to go on. Nothing was changed.
    """
    if (last.context, last.namespace if last.context else "") == (
        settings.context,
        settings.namespace if settings.context else "",
    ):
        return
    keep = " and ".join(as_toml(name, getattr(last, name)) for name in ("context", "namespace") if last.context)
    raise InvalidRequest(
        f"the boxes and disks of this cloud are {_place(last)}, but the settings name {_place(settings)}",
        ("keep it", f"{keep or as_toml('context', '')} in the settings"),
        (
            "a second cloud",
            f'cloud = "…", state = "{settings.state}-2" and its own socket in the settings',
        ),
    )


def _place(settings: Settings) -> str:
    if not settings.context:
        return "on this machine"
    return f"in namespace {settings.namespace} of context {settings.context}"
