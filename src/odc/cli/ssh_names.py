"""Chooses the names of boxes in the SSH configuration files, so that no name connects to an unintended machine.

A box is `NAME.CONTEXT` always, and `NAME` too. The context is the cloud's name, made from its endpoint. A name that is
used in two clouds is the current one's, which the user's settings name; if neither is that, a file that sorts first
refuses the name and lists the others. `NAME.ID` is for boxes of which the context does not tell which one is meant.
An entry of another cloud stays while it may be needed: until its box is long past its end, or the cloud's socket is
gone and nothing listens where the box was. Machines that share a home have clouds on sockets of one path, so an entry
names the machine too.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

from odc.api.connectors import DEFAULT_SOCKET
from odc.api.messages.reservations import ReservationView
from odc.cli import ssh_entry
from odc.cli.ssh_probe import is_closed, is_loopback
from odc.host import write_atomically

SUFFIX = "-sshconfig"
DUPLICATE_NAMES_FILE = f"0-same-names{SUFFIX}"
"""Read before every entry, because ssh reads the files of an Include in the order of their names."""
KEPT_AFTER_END = timedelta(days=2)
"""Added to an entry's end: another computer of the user may know a later one."""
_TRAILER = "# reservation "
_CLOUD = "# of the cloud on "
_OF = " of "
_USUAL_CONTEXT = "odc"
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


def context_of(endpoint: str) -> str:
    """Return the context of an endpoint, its cloud's name: `lab` for `/run/odc/lab.sock` and `/srv/lab/odc.sock`."""
    path = PurePath(cloud_of(endpoint))
    is_usual = path.stem == _USUAL_CONTEXT and str(path) != DEFAULT_SOCKET
    word = path.parent.name if is_usual else path.stem
    return re.sub("[^a-z0-9]+", "-", word.lower()).strip("-") or _USUAL_CONTEXT


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
    hosts = hosts_in(path)
    first = next(iter(hosts), "")
    decided = path.with_name(DUPLICATE_NAMES_FILE)
    chosen = _block(decided, first)
    if not chosen or _host_key_alias(chosen) == _host_key_alias(_block(path, first)):
        return first
    return _other_name(path, first, hosts_in(decided))


def _other_name(path: Path, name: str, taken: Collection[str]) -> str:
    """Return what a box is called if another one has its name: `NAME.CONTEXT`, or `NAME.ID` if that is taken too."""
    base, _, context = name.partition(".")
    full = f"{base}.{context_of((cloud_in(path) or '').partition(_OF)[0])}"
    return full if not context and full in hosts_in(path) and full not in taken else ssh_entry.alias(base, path.name)


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


def decide_duplicate_names(folder: Path, current: str) -> None:
    """Write the file that gives names of several entries to the current cloud or refuses them; delete it if there are
    none.

    Args:
        folder: of the entries.
        current: the cloud of the user's settings. A home that machines share has a current cloud on each, so names that
            another machine has too are refused.
    """
    owners: dict[str, list[Path]] = defaultdict(list)
    for path in entries(folder):
        for name in hosts_in(path):
            owners[name].append(path)
    doubles = {name: paths for name, paths in owners.items() if len(paths) > 1 and ssh_entry.WORD.fullmatch(name)}
    blocks: list[str] = []
    renamed: dict[str, str] = {}
    for name, paths in doubles.items():
        others = {path: _other_name(path, name, doubles) for path in paths}
        winner = _of_current(paths, current)
        blocks.append(_named(winner, name, name) if winner else ssh_entry.refusal(name, list(others.values())))
        renamed |= {other: _named(path, name, other) for path, other in others.items() if other not in hosts_in(path)}
    file, text = folder / DUPLICATE_NAMES_FILE, "\n".join([*blocks, *renamed.values()])
    if not text:
        file.unlink(missing_ok=True)
    elif text_of(file) != text:
        write_atomically(file, text.encode())


def _of_current(paths: Iterable[Path], current: str) -> Path | None:
    """Return the only one of these entries that is of the current cloud; None if another machine has one."""
    clouds = {path: cloud_in(path) or "" for path in paths}
    found = [path for path, cloud in clouds.items() if cloud == current]
    return found[0] if len(found) == 1 and not any(_OF in cloud for cloud in clouds.values()) else None


def _block(path: Path, name: str) -> str:
    """Return the block of this name in a file; empty if there is none."""
    blocks = [block.strip() for block in blocks_of(path).split("\n\n")]
    return next((block for block in blocks if name in block.partition("\n")[0].split()[1:]), "")


def _host_key_alias(block: str) -> str:
    found = re.search(r"^  HostKeyAlias (\S+)$", block, re.MULTILINE)
    return found[1] if found else ""


def _named(path: Path, name: str, other: str) -> str:
    """Return the entry's block of a name, under another name."""
    return f"Host {other}\n{_block(path, name).partition(chr(10))[2]}\n"
