"""The line `Include ~/.gpu-dev/*-sshconfig` in the SSH configurations of OpenSSH (and VS Code) and Cursor.

It must stand before any Host block, so it goes to the top. A user's file is never damaged: it is written whole, keeps
its mode, a link stays a link, and what enable adds is exactly what disable takes away.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from odc.cli.settings_file import write_whole
from odc.domain.errors import InvalidRequest

LINE = "Include ~/.gpu-dev/*-sshconfig"


def config_files(home: Path) -> tuple[Path, ...]:
    """The files that carry the line."""
    return home / ".ssh" / "config", home / ".cursor" / "ssh_config"


def is_included(path: Path) -> bool:
    """Whether the file has the line."""
    try:
        return any(line.strip() == LINE for line in path.read_text(errors="surrogateescape").splitlines())
    except OSError:
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
    """Take the line away; False if it was not there.

    Raises:
        InvalidRequest: the file cannot be written; it stays as it is.
    """
    if not is_included(path):
        return False
    kept = [line for line in _read(path).splitlines(keepends=True) if line.strip() != LINE]
    _write(path, "".join(kept))
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
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
