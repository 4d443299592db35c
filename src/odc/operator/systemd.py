"""Starting at boot, by a systemd unit, on machines that run systemd. Boxes themselves are started by ODC only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from odc.domain.errors import ProviderUnavailable

UNITS = Path("/etc/systemd/system")
EXIT_BAD_SETTINGS = 2
"""Exit code of a daemon whose settings are wrong: starting it again does not help."""
_NOT_NEEDED = ("SYS_BOOT", "SYS_TIME", "SYS_PACCT", "SYS_RAWIO", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND")


def has_systemd() -> bool:
    """Whether systemd runs this machine. Source: sd_booted(3)."""
    return Path("/run/systemd/system").is_dir()


def unit_name(cloud: str) -> str:
    """Return the name of a cloud's unit."""
    return "odc.service" if cloud == "odc" else f"odc-{cloud}.service"


def unit_text(command: list[str], log: Path, folders: Iterable[Path]) -> str:
    """Return the text of the unit's file.

    Rule: only the daemon belongs to it: boxes and the engine's service keep running when it stops (`KillMode`). It
    starts when the file systems of its folders are mounted, and restarts without limit, except after invalid settings.
    What boxes could inherit is left alone: no mount namespace of its own, since boxes' disks are mounts of the host; no
    system call filter and no `NoNewPrivileges`, since sudo works in boxes. Only rights over the whole machine, which no
    box has anyway, are removed. Dollars in the command are dollars (the colon): doubled ones would not be halved in the
    program's own path.

    Args:
        command: the daemon's. systemd takes no program with a quote or a backslash in its path.
        log: its output is appended to this file.
        folders: the folders that must be mounted before it starts.

    Source: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5).
    """
    words = " ".join(_quoted(word) for word in command)
    mounts = " ".join(_quoted(str(folder)) for folder in folders)
    return f"""\
[Unit]
Description=Open Developer Cloud
After=network-online.target local-fs.target time-sync.target
Wants=network-online.target
RequiresMountsFor={mounts}
StartLimitIntervalSec=0

[Service]
Type=exec
Environment=HOME=/root
EnvironmentFile=-/etc/default/odc
ExecStart=:{words}
StandardOutput=append:{_specifiers(str(log))}
StandardError=inherit
KillMode=process
TimeoutStopSec=60
Restart=always
RestartSec=2
RestartPreventExitStatus={EXIT_BAD_SETTINGS}
LimitNOFILE=1048576
Delegate=yes
CapabilityBoundingSet=~{" ".join(f"CAP_{name}" for name in _NOT_NEEDED)}

[Install]
WantedBy=multi-user.target
"""


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    escaped = _specifiers(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if not word or set(word) & set(" \t'\";") else escaped


def enable(cloud: str, command: list[str], log: Path, folders: Iterable[Path]) -> None:
    """Write the unit, and start it now and at every boot.

    Raises:
        ProviderUnavailable: systemd refuses, with its words.
    """
    (UNITS / unit_name(cloud)).write_text(unit_text(command, log, folders))
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", unit_name(cloud))


def is_enabled(cloud: str) -> bool:
    """Whether the cloud has a unit on this machine."""
    return has_systemd() and (UNITS / unit_name(cloud)).exists()


def has_failed(cloud: str) -> bool:
    """Whether the unit's daemon has ended since it was started: it is waiting for its next try, or will have none."""
    shown = _systemctl("show", "--property=ActiveState,NRestarts", unit_name(cloud))
    facts = dict(line.partition("=")[::2] for line in shown.splitlines())
    return facts.get("ActiveState") == "failed" or facts.get("NRestarts", "0") != "0"


def disable(cloud: str) -> None:
    """Stop the unit and forget it.

    Raises:
        ProviderUnavailable: systemd refuses, with its words.
    """
    _systemctl("disable", "--now", unit_name(cloud))
    (UNITS / unit_name(cloud)).unlink(missing_ok=True)
    _systemctl("daemon-reload")


def _systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise ProviderUnavailable(f"systemctl {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout
