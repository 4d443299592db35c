"""Cleans the inherited environment and standard files for a daemon and its child processes.

Variables that lead the container engine elsewhere, a folder for temporary files that is not there, a search path
without the programs of root, closed standard files: each of them causes failures far from their cause. Harmful
variables are removed and reported to the caller.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

from odc.cli.unwritten import open_standard_files

FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_ENGINE = (
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
    "CONTAINER_SSHKEY",
    "CONTAINERS_",
    "DOCKER_",
    "PODMAN_",
    "BUILDAH_",
    "NETAVARK_",
    "STORAGE_",
    "_CONTAINERS_",
    "_PODMAN_",
)
"""Prefixes of variables that change Podman's behaviour. Source: podman(1), containers.conf(5), storage.conf(5)."""
_ALSO = (
    "REGISTRY_AUTH_FILE",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "IFS",
    "ENV",
    "BASH_ENV",
    "CDPATH",
    "MAKEFLAGS",
)
_FOREIGN_CODE = ("PYTHONPATH", "PYTHONHOME")
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")


def cleaned(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the environment for programs that ODC starts.

    Args:
        environment: as it was inherited.

    Returns:
        The environment to use, and the removed variables that the user may miss, each with the reason where it needs
        one.
    """
    kept, told = {}, []
    for name, value in environment.items():
        why = _harm(name, value)
        if why is None:
            kept[name] = value
        elif name not in _ALSO and (not name.startswith("PYTHON") or name in _FOREIGN_CODE):
            told.append(name + why)
    kept["PATH"] = _search_path(environment.get("PATH", ""))
    if not Path(kept.get("HOME", "")).is_absolute():
        kept["HOME"] = _home()
    return kept, sorted(told)


def clean_own(environment: MutableMapping[str, str]) -> list[str]:
    """Clean this process's own environment, umask and standard files; return the removed variables."""
    open_standard_files()
    # Files of ours can always be read and written by their owner, and never written by others.
    os.umask(os.umask(0o022) & 0o077 | 0o022)
    fresh, told = cleaned(environment)
    for name in set(environment) - set(fresh):
        del environment[name]
    environment.update(fresh)
    return told


def started_with() -> Mapping[str, str]:
    """Return the environment as it was at the process's start: Python may have changed its own `LC_CTYPE` since."""
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return os.environ
    pairs = (part.partition("=") for part in raw.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def _harm(name: str, value: str) -> str | None:
    """Return why a variable is removed, in words that follow its name; None if it is kept."""
    if name.startswith(_ENGINE) or name in _ALSO:
        return ""
    if name in _TEMPORARY and not (Path(value).is_absolute() and os.access(value, os.W_OK | os.X_OK)):
        return f" ({value[:60]!r} is not a folder that can be written)"
    if name.startswith("PYTHON") and not (name == "PYTHONPATH" and _is_needed(value)):
        return ""
    return None


def _is_needed(python_path: str) -> bool:
    """Whether ODC itself is imported from it."""
    own = Path(__file__).parents[2]
    return any(Path(entry).absolute() == own for entry in python_path.split(os.pathsep) if entry)


def _search_path(path: str) -> str:
    """Return the absolute folders of the path, followed by those of root's programs."""
    given = [folder for folder in path.split(os.pathsep) if folder.startswith("/")]
    return os.pathsep.join(_once((*given, *FOLDERS)))


def _once(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"
