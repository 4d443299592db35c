"""Chooses the names of boxes in the SSH configuration files, so that no name connects to an unintended machine.

A name that is used in two clouds connects to neither: a file that sorts first refuses it and lists both as `NAME.ID`.
An entry of another cloud stays while it may be needed: until its box is long past its end, or the cloud's socket is
gone and nothing listens where the box was. Machines that share a home have clouds on sockets of one path, so an entry
names the machine too.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from odc.api.messages.reservations import ReservationView
from odc.cli import ssh_entry
from odc.cli.ssh_probe import is_closed, is_loopback
from odc.domain.names import short
from odc.host import write_atomically

SUFFIX = "-sshconfig"
DUPLICATE_NAMES_FILE = f"0-same-names{SUFFIX}"
"""Read before every entry, because ssh reads the files of an Include in the order of their names."""
KEPT_AFTER_END = timedelta(days=2)
"""Added to an entry's end: another computer of the user may know a later one."""
_TRAILER = "# reservation "
_CLOUD = "# of the cloud on "
_OF = " of "
_MACHINE_ID = Path("/etc/machine-id")
_UNTIL = re.compile(rf"^{_TRAILER}(\S+) (\S+) until (\S+)$", re.MULTILINE)


def trailer(view: ReservationView, cloud: str) -> str:
    """Return the last lines of an entry: its reservation, its expiry time, and its cloud."""
    until = view.expires_at.astimezone(UTC).isoformat(timespec="seconds") if view.expires_at else "-"
    return f"{_TRAILER}{view.name} {view.id} until {until}\n{_CLOUD}{cloud}{_of_this_machine()}\n"


def machine_id() -> str:
    """Return an id that distinguishes this machine from others that share the home; empty if it has none, as in most
    containers.

    Not the host's name: that may change, and a container has one of its own.
    """
    try:
        found = _MACHINE_ID.read_text(errors="replace").strip()[:12]
    except OSError:
        return ""
    return found if ssh_entry.WORD.fullmatch(found) else ""


def _of_this_machine() -> str:
    """Return the suffix of a cloud's socket in its entries: the machine's name, for people, and its id."""
    name, machine = socket.gethostname(), machine_id()
    return f"{_OF}{name if ssh_entry.WORD.fullmatch(name) else 'another-machine'} {machine}" if machine else ""


def entries(folder: Path) -> list[Path]:
    """Return the files of all reservations, of every cloud, by id."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.name != DUPLICATE_NAMES_FILE]


def text_of(path: Path) -> str:
    """Return the file's text; empty if another command has just removed it, or if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def blocks_of(path: Path) -> str:
    """Return the Host blocks of a file, without its last lines."""
    return text_of(path).partition(_CLOUD)[0].partition(_TRAILER)[0]


def cloud_of(endpoint: str) -> str:
    """Return the cloud as files name it: its socket; empty if a line cannot contain that."""
    path = endpoint.removeprefix("unix://")
    return path if ssh_entry.QUOTABLE.fullmatch(path) else ""


def cloud_in(path: Path) -> str | None:
    """Return the cloud that the file names: its socket, with the machine if it is a different one; None if it names
    none.
    """
    before, mark, cloud = text_of(path).rpartition(_CLOUD)
    where, of, machine = cloud.strip().rpartition(_OF)
    name, _, known = machine.partition(" ")
    if not of or not known:
        return cloud.strip() if before or mark else None
    return where if known == machine_id() else f"{where}{_OF}{name}"


def name_of(path: Path) -> str:
    """Return the name of the file's reservation; empty if another command has just removed it."""
    found = _UNTIL.search(text_of(path))
    return found[1] if found else next(iter(hosts_in(path)), "")


def hosts_in(path: Path) -> list[str]:
    """Return every name that the file gives to a box."""
    lines = text_of(path).splitlines()
    return [name for line in lines if line.startswith("Host ") for name in line.split()[1:]]


def ssh_name(path: Path) -> str:
    """Return the name by which ssh reaches the reservation's first box; empty if it has no entry."""
    first = next(iter(hosts_in(path)), "")
    return ssh_entry.alias(first, path.name) if first in hosts_in(path.with_name(DUPLICATE_NAMES_FILE)) else first


def is_stale_entry(path: Path) -> bool:
    """Whether an entry of another cloud is of no use any more."""
    text = text_of(path)
    found = _UNTIL.search(text)
    try:
        end = datetime.fromisoformat(found[3]) if found else None
    except ValueError:
        end = None
    if end is not None and datetime.now(UTC) > end + KEPT_AFTER_END:
        return True
    return _is_gone(text, cloud_in(path) or "")


def _is_gone(text: str, cloud: str) -> bool:
    """Whether the cloud's socket is gone and nothing listens where the boxes were; other machines are not tried."""
    if not cloud.startswith("/") or _OF in cloud or Path(cloud).exists():
        return False
    hosts = re.findall(r"^  HostName (\S+)$", text, re.MULTILINE)
    ports = re.findall(r"^  Port (\d+)$", text, re.MULTILINE)
    if not hosts or len(hosts) != len(ports) or not all(map(is_loopback, hosts)):
        return False
    return all(is_closed(host, int(port)) for host, port in zip(hosts, ports, strict=True))


def elsewhere(folder: Path, cloud: str, name: str) -> str:
    """Return another cloud in which a reservation has this name; empty if there is none."""
    for path in entries(folder):
        other = cloud_in(path)
        if other not in (None, cloud) and name in (name_of(path), *hosts_in(path)) and not is_stale_entry(path):
            return other or "another cloud"
    return ""


def refuse_duplicate_names(folder: Path) -> None:
    """Write the file that refuses names of several entries; delete it if there are none."""
    owners: dict[str, list[Path]] = defaultdict(list)
    for path in entries(folder):
        for name in hosts_in(path):
            owners[name].append(path)
    doubles = {name: paths for name, paths in owners.items() if len(paths) > 1 and ssh_entry.WORD.fullmatch(name)}
    blocks = [ssh_entry.refusal(name, [path.name for path in paths]) for name, paths in doubles.items()]
    for name, paths in doubles.items():
        blocks += [_renamed(path, name) for path in paths]
    file, text = folder / DUPLICATE_NAMES_FILE, "\n".join(blocks)
    if not text:
        file.unlink(missing_ok=True)
    elif text_of(file) != text:
        write_atomically(file, text.encode())


def _renamed(path: Path, name: str) -> str:
    """Return the entry's block of this name, under its unique name."""
    for block in blocks_of(path).split("\n\n"):
        host, _, settings = block.strip().partition("\n")
        if name in host.split()[1:]:
            return f"Host {ssh_entry.alias(name, short(path.name))}\n{settings}\n"
    return ""
