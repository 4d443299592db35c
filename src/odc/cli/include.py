"""The line `Include ~/.gpu-dev/*-sshconfig` in the SSH configurations of OpenSSH (and VS Code) and Cursor.

It must stand before any Host block, so it goes to the top. A user's file is never damaged: it is written whole, keeps
its mode, a link stays a link, and what enable adds is exactly what disable takes away.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from odc.cli.settings_file import write_whole
from odc.domain.errors import InvalidRequest

LINE = "Include ~/.gpu-dev/*-sshconfig"
_BLOCK = re.compile(r"\s*(host|match)\b", re.IGNORECASE)


def config_files(home: Path) -> tuple[Path, ...]:
    """The files that carry the line."""
    return home / ".ssh" / "config", home / ".cursor" / "ssh_config"


def is_included(path: Path) -> bool:
    """Whether the file has the line where it counts for every name: before any Host or Match block."""
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError:
        return False
    for line in text.splitlines():
        if line.strip() == LINE:
            return True
        if _BLOCK.match(line):
            return False
    return False


def enable(path: Path) -> bool:
    """Put the line at the top; False if it is there.

    Raises:
        InvalidRequest: the file cannot be written; it stays as it is.
    """
    if is_included(path):
        return False
    text = _read(path)
    _write(path, f"{LINE}\n{text}")
    return True


def disable(path: Path) -> bool:
    """Take away the line that `enable` put at the top; False if none is there. A line elsewhere is the user's own.

    Raises:
        InvalidRequest: the file cannot be written; it stays as it is.
    """
    text = _read(path)
    if not text.startswith(f"{LINE}\n"):
        return False
    _write(path, text.removeprefix(f"{LINE}\n"))
    return True


def _read(path: Path) -> str:
    try:
        with path.open(errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    target = path.resolve()
    if target.exists() and not os.access(target, os.W_OK):
        raise InvalidRequest(f"{path} is read-only; it was left as it is", ("the line at its top", LINE))
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        write_whole(target, text.encode(errors="surrogateescape").decode("latin-1"), mode, encoding="latin-1")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}; it was left as it is") from error


def in_effect(path: Path, name: str, port: int) -> bool:
    """Whether ssh, reading this file, reaches the box of this name at this port."""
    try:
        done = subprocess.run(["ssh", "-F", str(path), "-G", name], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return f"port {port}\n" in done.stdout
