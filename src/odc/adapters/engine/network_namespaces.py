"""The folder where boxes' network namespaces are mounted: shared, so that the engine's clean-up of a box sees them.

The engine starts and cleans up a box with a user namespace in a separate mount namespace, which sees later mounts only
below a shared mount. systemd shares everything; elsewhere the engine shares this folder when it starts its first
container without a user namespace, but ODC's boxes all have one. Without the shared mount the clean-up finds no
network, and bridges, addresses and port rules of ended boxes are left behind.

Source: Podman 4.3, `libpod/oci_conmon_linux.go` (createRootlessContainer), `pkg/netns/netns_linux.go` (NewNS).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from odc.domain.errors import ProviderUnavailable
from odc.host import locked

FOLDER = Path("/run/netns")


def share_namespaces(folder: Path = FOLDER) -> None:
    """Make the folder, with the mounts in it, a shared mount. Repeatable, also by several processes at once.

    Raises:
        ProviderUnavailable: the folder cannot be made or mounted, so boxes' networks could not be removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise ProviderUnavailable(f"{folder} cannot be made: {error.strerror or error}") from error
    with locked(folder.parent):
        if not _is_shared(folder):
            _mount("--rbind", str(folder), str(folder))
            _mount("--make-rshared", str(folder))


def is_unmounted(pid: int, place: Path) -> bool:
    """Whether the network namespace of a running process is not mounted where the engine expects it.

    Args:
        pid: the box's first process.
        place: the mount point.
    """
    try:
        wanted = Path(f"/proc/{pid}/ns/net").stat()
    except OSError:
        return False
    try:
        return not os.path.samestat(wanted, place.stat())
    except OSError:
        return True


def mount_namespace(pid: int, place: Path) -> None:
    """Mount the network namespace of a process where the engine expects it.

    Raises:
        ProviderUnavailable: it cannot be mounted.
    """
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if not place.exists():
        place.touch(mode=0o444)
    _mount("--bind", f"/proc/{pid}/ns/net", str(place))


def _is_shared(folder: Path) -> bool:
    """Whether the mount that holds the folder is shared. Source: proc(5), `/proc/[pid]/mountinfo`."""
    shown = subprocess.run(
        ["findmnt", "--noheadings", "--output", "PROPAGATION", "--target", str(folder)], capture_output=True, text=True
    )
    return "shared" in shown.stdout.split(",")[0]


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise ProviderUnavailable(f"the boxes' networks cannot be shared: {done.stderr.strip()}")
