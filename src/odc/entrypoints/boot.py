"""Starting at boot, by a systemd unit, on machines that run systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path

from odc.domain.errors import ProviderUnavailable

UNITS = Path("/etc/systemd/system")


def has_systemd() -> bool:
    """Whether systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def unit_name(cloud: str) -> str:
    """The unit of a cloud."""
    return "odc.service" if cloud == "odc" else f"odc-{cloud}.service"


def unit_text(command: list[str]) -> str:
    """The unit's file. Only the daemon belongs to it: boxes and the engine's service live on when it stops.

    Source: systemd.service(5), systemd.kill(5).
    """
    words = " ".join(_quoted(word) for word in command)
    return (
        "[Unit]\n"
        "Description=Open Developer Cloud\n"
        "After=network-online.target local-fs.target\n"
        "Wants=network-online.target\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        f"ExecStart={words}\n"
        "KillMode=process\n"
        "Restart=always\n"
        "RestartSec=1\n"
        "LimitNOFILE=65536\n"
        "Delegate=yes\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if " " in escaped else escaped


def enable(cloud: str, command: list[str]) -> None:
    """Write the unit, and start it now and at every boot."""
    (UNITS / unit_name(cloud)).write_text(unit_text(command))
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", unit_name(cloud))


def is_enabled(cloud: str) -> bool:
    """Whether the cloud has a unit here."""
    return has_systemd() and (UNITS / unit_name(cloud)).exists()


def disable(cloud: str) -> None:
    """Stop the unit and forget it."""
    _systemctl("disable", "--now", unit_name(cloud))
    (UNITS / unit_name(cloud)).unlink(missing_ok=True)
    _systemctl("daemon-reload")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise ProviderUnavailable(f"systemctl {arguments[0]} failed: {words}")
