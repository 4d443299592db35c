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
