"""`~/.gpu-dev/<id>-sshconfig`: configuration for `ssh NAME`, scp, VS Code and Cursor.

Commands that ask for the user's reservations update it.

The host key is pinned under the reservation's whole id, so a box is never taken for an earlier one of the same name.
Values from the server are written to these files only if ssh cannot misread them. What a block contains:
`ssh_entry.py`; the keys in it: `ssh_identities.py`.

The last lines of a file name its reservation and cloud: a command removes the files of ended reservations of its own
cloud, and obsolete files of other clouds. No name connects to the wrong machine: a host of the user's own keeps its
name, and a name that two clouds use is the current one's (`ssh_names.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from odc.api.connectors import is_local
from odc.api.messages.reservations import ReservationView
from odc.cli import ssh_entry, ssh_include, ssh_names
from odc.cli.ssh_entry import QUOTABLE, WORD
from odc.cli.ssh_identities import KEY, NONE, PUBLIC, Identities
from odc.domain.names import short
from odc.domain.status import Status
from odc.host import write_atomically

SUFFIX = ssh_names.SUFFIX
KNOWN = "-known_hosts"
_KEY = re.compile(r"ssh-[a-z0-9-]+ [A-Za-z0-9+/=]+", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9@:/._-]+", re.ASCII)
_CLOCK_TICK_S = 0.01
_HAVE_BOXES = (Status.PREPARING, Status.ACTIVE)
Own = Callable[[Sequence[str]], Collection[str]]


def config_path(folder: Path, view_id: str) -> Path:
    """Return the file of a reservation."""
    return folder / f"{short(view_id)}{SUFFIX}"


def _none(_names: Sequence[str]) -> Collection[str]:
    return ()


class NameRules(NamedTuple):
    """Which names boxes may have.

    Attributes:
        own: returns which of some names are hosts of the user's own.
        current: endpoint of the cloud that gets a name that several have; empty for none.
    """

    own: Own = _none
    current: str = ""


ANY_NAME = NameRules()


def has_boxes(view: ReservationView) -> bool:
    """Whether the reservation has boxes of the user's: they are there, or are being made."""
    return bool(view.mine and view.state in _HAVE_BOXES and view.boxes and view.host_key)


def sync(
    folder: Path,
    views: Iterable[ReservationView],
    endpoint: str,
    asked_at: float,
    identities: Identities = NONE,
    rules: NameRules = ANY_NAME,
) -> None:
    """Make the folder contain the files of exactly these live reservations of a cloud, and of other clouds' live ones.

    Files that another command wrote after `asked_at` are kept: they belong to newer reservations. The managed
    block in the user's SSH configurations follows.

    Args:
        folder: `~/.gpu-dev`; made if it is not there.
        views: all of the user's live reservations there.
        endpoint: of the cloud.
        asked_at: when the views were requested, in seconds since 1970.
        identities: the keys to name, and other lines for each block.
        rules: which names the boxes may have.
    """
    wanted: dict[str, str] = {}
    shown = list(filter(has_boxes, views))
    for view in shown:
        others = [other.name for other in shown if other.name != view.name]
        wanted |= _files(folder, view, identities.lines, rules, endpoint, others)
    folder.mkdir(mode=0o700, exist_ok=True)
    _write(folder, wanted, identities)
    for path in ssh_names.entries(folder):
        if path.name in wanted:
            continue
        if not _is_newer(path, asked_at) if is_of(path, endpoint) else ssh_names.is_stale_entry(path):
            path.unlink(missing_ok=True)
    _follow_entries(folder, rules)


def rewrite(folder: Path, view: ReservationView, endpoint: str, identities: Identities, rules: NameRules) -> None:
    """Write the files of one reservation again, whose boxes have got an address since `sync`. The files of others stay
    as other commands have left them: reservations may have begun and ended since.

    Args:
        folder: `~/.gpu-dev`.
        view: the reservation.
        endpoint: of the cloud.
        identities: as for `sync`.
        rules: as for `sync`.
    """
    here = [path for path in ssh_names.entries(folder) if is_of(path, endpoint)]
    others = [ssh_names.name_of(path) for path in here if path != config_path(folder, view.id)]
    _write(folder, _files(folder, view, identities.lines, rules, endpoint, others), identities)
    _follow_entries(folder, rules)


def _program(endpoint: str, current: str) -> str:
    """Return `gpu-dev` as it is typed for this cloud, as far as its endpoint is plain words."""
    return f"gpu-dev --endpoint {endpoint}" if endpoint != current and _PLAIN.fullmatch(endpoint) else "gpu-dev"


def _follow_entries(folder: Path, rules: NameRules) -> None:
    """Make what depends on the entries agree with them."""
    ssh_names.decide_duplicate_names(folder, ssh_names.cloud_of(rules.current))
    _remove_orphans(folder)
    hosts = "".join(ssh_names.blocks_of(path) for path in sorted(folder.glob(f"*{SUFFIX}")))
    for path in ssh_include.config_files(folder.parent):
        ssh_include.refresh(path, hosts)


def write_entry(folder: Path, view: ReservationView, endpoint: str, identities: Identities) -> None:
    """Write the files of one reservation into any folder, where the user's own cannot be written to."""
    _write(folder, _files(folder, view, identities.lines, ANY_NAME, endpoint), identities)


def _write(folder: Path, wanted: dict[str, str], identities: Identities) -> None:
    for name, text in (wanted | identities.files if wanted else wanted).items():
        path = folder / name
        if ssh_names.text_of(path) != text:
            write_atomically(path, text.encode())


def _remove_orphans(folder: Path) -> None:
    """Remove host keys and sockets of entries that are gone, and public keys that no entry names."""
    for path in folder.glob(f"*{KNOWN}"):
        if not path.with_name(path.name.replace(KNOWN, SUFFIX)).exists():
            path.unlink(missing_ok=True)
    for path in folder.glob("*.mux"):
        if not (folder / f"{path.name.partition('-')[0]}{SUFFIX}").exists():
            path.unlink(missing_ok=True)
    keys = list(folder.glob(f"*{PUBLIC}"))
    if keys:
        text = "".join(ssh_names.text_of(path) for path in ssh_names.entries(folder))
        for path in keys:
            if f'/{path.name.removesuffix(PUBLIC)}{KEY}"' not in text:
                path.unlink(missing_ok=True)


def _is_newer(path: Path, moment: float) -> bool:
    """Whether the file was written after this moment, as far as the file system's clock can tell."""
    try:
        return path.stat().st_mtime > moment - _CLOCK_TICK_S
    except FileNotFoundError:
        return False


def is_of(path: Path, endpoint: str) -> bool:
    """Whether the file is of this cloud."""
    return ssh_names.cloud_in(path) == ssh_names.cloud_of(endpoint)


def _files(
    folder: Path, view: ReservationView, last_lines: str, rules: NameRules, endpoint: str, others: Sequence[str] = ()
) -> dict[str, str]:
    """Return file name to text, of one reservation; empty if its values are not plain words.

    A box called like another reservation, as the first one of `train` by `train-0`, leaves the name to that one.
    """
    key = " ".join(view.host_key.split()[:2])
    if not _KEY.fullmatch(key) or not WORD.fullmatch(view.id) or not QUOTABLE.fullmatch(str(folder)):
        return {}
    if not all(WORD.fullmatch(name) for name in (view.name, *(box.name for box in view.boxes))):
        return {}
    context = ssh_names.context_of(endpoint)
    plain = dict.fromkeys([view.name, *(box.name for box in view.boxes)])
    users = set(rules.own([*plain, *(f"{name}.{context}" for name in plain)]))
    known = folder / f"{short(view.id)}{KNOWN}"
    cloud = ssh_entry.Cloud(is_local(endpoint), _program(endpoint, rules.current))
    blocks = []
    for box in view.boxes:
        named = (view.name, box.name) if box.rank == 0 else (box.name,)
        names = tuple(host for name in named for host in _hosts(name, context, view.id, others, users))
        blocks.append(ssh_entry.block(view, box, known, names, last_lines, cloud))
    if not all(blocks):
        return {}
    return {
        config_path(folder, view.id).name: "\n".join([*blocks, ssh_names.trailer(view, ssh_names.cloud_of(endpoint))]),
        known.name: f"{view.id} {key}\n",
    }


def _hosts(name: str, context: str, view_id: str, others: Collection[str], users: Collection[str]) -> list[str]:
    """Return how ssh shall know a box of this name.

    Args:
        name: of the box, or of its reservation.
        context: of its cloud.
        view_id: of its reservation.
        others: names of other reservations in that cloud.
        users: hosts of the user's own.
    """
    wished = [] if name in others else [name, f"{name}.{context}"]
    return [host for host in wished if host not in users] or [ssh_entry.alias(name, view_id)]


def options_of(path: Path) -> list[str]:
    """Return the file's first block as options of the ssh command, where they take precedence."""
    _, *settings = path.read_text().partition("\n\n")[0].splitlines()
    return [word for setting in settings for word in ("-o", setting.strip())]


def files_of(folder: Path, endpoint: str) -> list[Path]:
    """Return the files of a cloud's reservations that have boxes, even while its daemon does not answer."""
    here = (path for path in ssh_names.entries(folder) if is_of(path, endpoint))
    return [path for path in here if ssh_entry.NOWHERE not in ssh_names.text_of(path)]


def names_of(folder: Path, endpoint: str) -> list[str]:
    """Return the names of a cloud's reservations, even while its daemon does not answer; none if the files cannot be
    read.
    """
    try:
        return [name for path in files_of(folder, endpoint) if (name := ssh_names.name_of(path))]
    except OSError:
        return []


def find_offline(folder: Path, endpoint: str, reference: str) -> Path | None:
    """Return the file that a name or an id's prefix refers to, while the ODC daemon does not answer."""
    for path in files_of(folder, endpoint):
        if path.name.startswith(short(reference)) and len(reference) >= 4:
            return path
        if reference in (ssh_names.name_of(path), *ssh_names.hosts_in(path)):
            return path
    return None
