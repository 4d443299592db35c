"""What must hold before a cloud starts, looked at before anything is started or made: fast, clear refusals.

The daemon looks again; `odc up` looks first, so that its user reads the reason at once.
"""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odc.adapters.engine.tcp_ports import taken_ports
from odc.domain.errors import InvalidRequest, ProviderRefused
from odc.entrypoints.bootstrap import lent_gpus
from odc.operator.host_claims import check_claim
from odc.operator.immutable_settings import check_disks_folder
from odc.operator.settings import Settings
from odc.ports.cluster import Cluster

ROOM = 64 * 2**20
"""What records, logs and boxes' files need of the state folder's file system to begin with."""


def check_before_start(settings: Settings) -> None:
    """Look at the state folder, the address, and the machine's other clouds.

    Raises:
        OdcError: the first thing that stands in the way, and what to type. Nothing was started.
    """
    check_claim(settings, lent_gpus(settings))
    check_disks_folder(settings)
    check_folder(settings.state_folder)
    check_listen(settings.listen)


def check_folder(state: Path) -> None:
    """Make the state folder, and try to write there.

    Raises:
        ProviderRefused: it cannot be used.
    """
    with _explained(state):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        if state.stat().st_mode & 0o077:
            text = f"the state folder {state} is open to others than root: the records lie there"
            own = ("or choose one of its own", 'state = "/…" in the settings')
            raise ProviderRefused(text, ("close it", f"sudo chmod 700 {state}"), own)
        probe = state / ".writable"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    free = shutil.disk_usage(state).free
    if free < ROOM:
        text = f"the state folder {state} has {free // 2**20} MiB free; a cloud needs {ROOM // 2**20}"
        raise ProviderRefused(text, *_other_place(state))


@contextmanager
def _explained(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            (state / ".writable").unlink(missing_ok=True)
        why = error.strerror or str(error)
        raise ProviderRefused(f"the state folder {state} cannot be used: {why}", *_other_place(state)) from error


def _other_place(state: Path) -> tuple[tuple[str, str], ...]:
    parent = next(path for path in (state, *state.parents) if path.exists())
    return ("see what is there", f"df -h {parent}"), ("or choose another place", 'state = "/…" in the settings')


def check_listen(listen: str) -> None:
    """Whether the machine has the address at which boxes' SSH is to listen.

    Raises:
        InvalidRequest: it has not.
    """
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((listen, 0))
        except OSError as error:
            text = f'listen = "{listen}": this machine has no such address ({error.strerror})'
            raise InvalidRequest(text, ("its addresses", "ip -brief address")) from error


def check_ports(settings: Settings, cluster: Cluster) -> None:
    """Whether some port is left, or boxes of this cloud have some.

    Raises:
        ProviderRefused: strangers have all ports.
    """
    first, last = settings.ports
    if len(taken_ports(settings.listen, range(first, last + 1))) > last - first and not cluster.list_boxes():
        raise ProviderRefused(
            f"ports {first} to {last} on {settings.listen} are all taken, so no box could be reached",
            ("who has them", f"ss -ltnp 'sport >= {first} and sport <= {last}'"),
            ("choose others", "ports = [FIRST, LAST] in the settings"),
        )


def ephemeral_ports() -> tuple[int, int]:
    """The ports that the kernel gives to outgoing connections, first and last. Source: ip(7)."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(first), int(last)


def reachable_by_all(path: Path) -> Path | None:
    """The first folder above the path that other users may not enter; None if they may enter all."""
    for folder in reversed(path.parents):
        try:
            if not folder.stat().st_mode & 0o001:
                return folder
        except OSError:
            return folder
    return None
