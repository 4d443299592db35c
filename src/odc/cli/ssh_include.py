"""The line `Include ~/.gpu-dev/*-sshconfig` in the SSH configurations of OpenSSH (and VS Code) and Cursor.

It must precede every Host block, so it goes to the top. For editors that do not follow an Include, a managed block can
replace it: the entries themselves between two marks, rewritten by every command. A user's file is never damaged: it is
replaced atomically, keeps its mode, a link stays a link, and disable removes exactly what enable has added.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from odc.cli.settings_file import is_file
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest
from odc.host import write_atomically

ENABLE = gpu_dev("config ssh-include enable")
LINE = "Include ~/.gpu-dev/*-sshconfig"
BEGIN = "# >>> your reservations, by gpu-dev: do not edit, every command writes them anew >>>"
END = "# <<< your reservations <<<"
_BLOCK = re.compile(r"\s*(host|match)\b", re.IGNORECASE)
_MAY_NAME = re.compile(r"\s*(host|match|include)\b", re.IGNORECASE)
_MANAGED = re.compile(f"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n", re.MULTILINE | re.DOTALL)
_FOR_ALL = "Host *\n"
"""Ends the block, so that the user's options for every host do not become part of the last entry."""


def ssh_file(home: Path) -> Path:
    """Return the file that OpenSSH and VS Code read."""
    return home / ".ssh" / "config"


def config_files(home: Path) -> tuple[Path, ...]:
    """Return the files that may contain the line."""
    return ssh_file(home), home / ".cursor" / "ssh_config"


def files_in_use(home: Path) -> tuple[Path, ...]:
    """Return the files that are in use: Cursor's only if Cursor is installed."""
    return tuple(path for path in config_files(home) if path == ssh_file(home) or path.parent.is_dir())


class Unreadable(NamedTuple):
    """A file or folder that its user may not read, and the command that repairs it."""

    path: Path
    repair: str


def unreadable(file: Path) -> Unreadable | None:
    """Return the folder or file that ssh cannot read, with the command that repairs it; None if it can read all."""
    for path, access, mode in ((file.parent, os.R_OK | os.X_OK, "700"), (file, os.R_OK, "600")):
        if path.exists() and not os.access(path, access):
            own = path.stat().st_uid == os.getuid()
            command = f"chmod {mode}" if own else f"sudo chown {os.getuid()}:{os.getgid()}"
            return Unreadable(path, f"{command} {shlex.quote(str(path))}")
    return None


def is_included(path: Path) -> bool:
    """Whether the file has the line, or the managed block, where it counts: before any Host or Match block."""
    try:
        text = path.read_text(errors="surrogateescape")
    except OSError:
        return False
    for line in text.splitlines():
        if line.strip() == LINE or line == BEGIN:
            return True
        if _BLOCK.match(line):
            return False
    return False


def is_too_low(path: Path) -> bool:
    """Whether the file has the line only below a Host or Match block, where that block's settings come first."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    return not is_included(path) and any(line.strip() == LINE for line in lines)


def enable(path: Path, block: bool = False) -> bool:
    """Put the line at the top, or a managed block that `refresh` fills; each replaces the other.

    Returns:
        False if it is there.

    Raises:
        InvalidRequest: the file cannot be written; it stays as it is.
    """
    text = _read(path)
    managed = _MANAGED.search(text) is not None
    if managed == block and is_included(path):
        return False
    _write(path, (_managed("") if block else f"{LINE}\n") + _without(text))
    return True


def disable(path: Path) -> bool:
    """Remove what `enable` has added; False if it is not there. A line that is not at the top is the user's own.

    Raises:
        InvalidRequest: the file cannot be written; it stays as it is.
    """
    text = _read(path)
    rest = _without(text)
    if rest == text:
        return False
    _write(path, rest)
    return True


def refresh(path: Path, hosts: str) -> None:
    """Bring the managed block up to date; a file without one stays as it is.

    Args:
        path: the file.
        hosts: the Host blocks of all reservations.

    Raises:
        InvalidRequest: the file cannot be read or written; it stays as it is.
    """
    if not is_file(path):
        return
    text = _read(path)
    fresh = _MANAGED.sub(lambda _: _managed(hosts), text, count=1)
    if fresh != text:
        _write(path, fresh)


def without_managed_block(text: str) -> str:
    """Return a configuration without the block that `enable` writes."""
    return _MANAGED.sub("", text)


def _managed(hosts: str) -> str:
    return f"{BEGIN}\n{hosts}{_FOR_ALL if hosts else ''}{END}\n"


def _without(text: str) -> str:
    return _MANAGED.sub("", text.removeprefix(f"{LINE}\n"), count=1)


def _read(path: Path) -> str:
    try:
        with path.open(errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        blocked = unreadable(path)
        hints = (("repair it", blocked.repair),) if blocked else ()
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", *hints) from error


def _write(path: Path, text: str) -> None:
    target = path.resolve()
    if target.exists() and not os.access(target, os.W_OK):
        raise InvalidRequest(f"{path} is read-only; it was left as it is", ("the line at its top", LINE))
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        write_atomically(target, text.encode(errors="surrogateescape"), mode)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}; it was left as it is") from error


def names_hosts(path: Path) -> bool:
    """Whether the user's part of the file may contain hosts of the user's: not for `Host *` alone."""
    try:
        text = without_managed_block(path.read_text(errors="surrogateescape"))
    except OSError:
        return False
    starts = [line.split() for line in text.splitlines() if _MAY_NAME.match(line) and line.strip() != LINE]
    return any([word.lower() for word in words] != ["host", "*"] for words in starts)


_DECISIVE = frozenset(
    {
        "addressfamily",
        "bindaddress",
        "hostkeyalgorithms",
        "hostkeyalias",
        "hostname",
        "port",
        "preferredauthentications",
        "proxycommand",
        "proxyjump",
        "pubkeyauthentication",
        "user",
        "userknownhostsfile",
    }
)
"""Options that lead a name elsewhere or keep its user out, in lower case as `ssh -G` prints them."""


def in_effect(path: Path, name: str, port: int) -> bool:
    """Whether ssh, reading this file, reaches the box of this name at this port."""
    return f"port {port}\n" in _shown(["ssh", "-F", str(path), "-G", name])


def is_known(name: str, view_id: str, entry: Path) -> bool:
    """Whether `ssh NAME`, typed now, reaches the box of this reservation: with the files that ssh itself reads.

    Where these include ours below a `Host *` of the user's, the options that are set there are taken. So those that the
    entry sets must be as in the entry alone.

    Args:
        name: of the box.
        view_id: of its reservation.
        entry: the file that describes the box.
    """
    if not name:
        return False
    alone, shown = (_decisive([*words, "-G", name]) for words in (["ssh", "-F", str(entry)], ["ssh"]))
    try:
        keys = {line.split()[0].lower() for line in entry.read_text().splitlines() if line.startswith("  ")}
    except OSError:
        return False
    if "proxycommand" in keys:
        keys.add("proxyjump")  # the first of the two counts
    return shown.get("hostkeyalias") == view_id and all(shown.get(key) == alone.get(key) for key in keys & _DECISIVE)


def _decisive(words: list[str]) -> dict[str, str]:
    """Return the options that ssh prints and that decide where a name leads."""
    pairs = (line.partition(" ") for line in _shown(words).splitlines())
    return {key: value for key, _, value in pairs if key in _DECISIVE}


def _shown(words: list[str]) -> str:
    """Return what ssh prints; empty if it is not installed, fails, or does not end."""
    import subprocess

    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout
