"""`~/.gpu-dev/<id>-sshconfig`: what makes `ssh NAME`, scp, VS Code and Cursor work; every command renews them.

The host key is pinned under the reservation's whole id: a name that comes back as another box is never a stranger's.
What the server says goes into these files only if it cannot mean anything else to ssh. A key that the user has set and
that lies where ssh does not look is named in them; then the usual ones are too, for ssh would not try them any more.

The last line of a file says which cloud it is of: a command takes away what is over in its own cloud only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from odc.api.messages import BoxView, ReservationView
from odc.cli import include
from odc.cli.settings_file import read_identity, write_whole
from odc.domain.names import short

SUFFIX = "-sshconfig"
KNOWN = "-known_hosts"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*", re.ASCII)
_KEY = re.compile(r"ssh-[a-z0-9-]+ [A-Za-z0-9+/=]+", re.ASCII)
_QUOTABLE = re.compile(r'[^"\\\x00-\x1f\x7f]+')
_CLOCK_TICK_S = 0.01
_CLOUD = "# of the cloud on "
_USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_REACHABLE = ("preparing", "active")


def config_path(folder: Path, view_id: str) -> Path:
    """The file of a reservation."""
    return folder / f"{short(view_id)}{SUFFIX}"


def sync(folder: Path, views: Iterable[ReservationView], endpoint: str, asked_at: float) -> None:
    """Make the folder hold the files of exactly these live reservations of a cloud; other clouds' stay.

    So do files that another command has written since these were asked for: they are of reservations made meanwhile.
    A managed block in the user's SSH configurations follows.

    Args:
        folder: `~/.gpu-dev`; made if it is not there.
        views: all of the user's live reservations there.
        endpoint: of the cloud.
        asked_at: when the cloud was asked for them, in seconds since 1970.
    """
    wanted: dict[str, str] = {}
    identities = identity_lines(folder.parent, read_identity(folder))
    for view in views:
        if view.mine and view.state in _REACHABLE and view.boxes and view.host_key:
            wanted |= _files(folder, view, identities, cloud_of(endpoint))
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in wanted.items():
        path = folder / name
        if _text_of(path) != text:
            write_whole(path, text)
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name not in wanted and is_of(path, endpoint) and not _is_newer(path, asked_at):
            path.unlink(missing_ok=True)
    for path in folder.glob(f"*{KNOWN}"):
        if not path.with_name(path.name.replace(KNOWN, SUFFIX)).exists():
            path.unlink(missing_ok=True)
    hosts = "".join(_text_of(path).partition(_CLOUD)[0] for path in sorted(folder.glob(f"*{SUFFIX}")))
    for path in include.config_files(folder.parent):
        include.refresh(path, hosts)


def _is_newer(path: Path, moment: float) -> bool:
    """Whether the file was written after this moment, as far as the file system's clock can tell."""
    try:
        return path.stat().st_mtime > moment - _CLOCK_TICK_S
    except FileNotFoundError:
        return False


def cloud_of(endpoint: str) -> str:
    """The cloud as a file names it: its socket; empty for one whose name a line cannot hold."""
    path = endpoint.removeprefix("unix://")
    return path if _QUOTABLE.fullmatch(path) else ""


def is_of(path: Path, endpoint: str) -> bool:
    """Whether the file is of this cloud."""
    return _text_of(path).rpartition(_CLOUD)[2].strip() == cloud_of(endpoint)


def _text_of(path: Path) -> str:
    """What stands in the file; nothing if another command has just taken it away."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def identity_lines(home: Path, identity: Path | None) -> str:
    """The lines that name the keys to try; none while ssh finds the key by itself.

    Args:
        home: the user's.
        identity: the private half of the key that the user has set; None if it is not on this machine.
    """
    usual = [home / ".ssh" / name for name in _USUAL_KEYS]
    if identity is None or identity in usual or not _QUOTABLE.fullmatch(str(identity)):
        return ""
    named = [identity, *(path for path in usual if path.exists())]
    return "".join(f"  IdentityFile {_quoted(path)}\n" for path in named)


def _quoted(path: Path) -> str:
    """A path as ssh reads it whatever stands in it: `%` begins a token there."""
    return '"' + str(path).replace("%", "%%") + '"'


def _files(folder: Path, view: ReservationView, identities: str, cloud: str) -> dict[str, str]:
    """File name to text, of one reservation; nothing for one whose values are not plain words."""
    key = " ".join(view.host_key.split()[:2])
    if not _KEY.fullmatch(key) or not _WORD.fullmatch(view.id) or not _QUOTABLE.fullmatch(str(folder)):
        return {}
    known = folder / f"{short(view.id)}{KNOWN}"
    blocks = [_block(view, box, known, identities) for box in view.boxes if box.ssh is not None]
    if not all(blocks):
        return {}
    return {
        config_path(folder, view.id).name: "\n".join([*blocks, f"{_CLOUD}{cloud}\n"]),
        known.name: f"{view.id} {key}\n",
    }


def _block(view: ReservationView, box: BoxView, known: Path, identities: str) -> str:
    ssh = box.ssh
    if ssh is None or not all(_WORD.fullmatch(word) for word in (view.name, box.name, ssh.host, ssh.user)):
        return ""
    names = f"{view.name} {box.name}" if box.rank == 0 else box.name
    return (
        f"Host {names}\n"
        f"  HostName {ssh.host}\n"
        f"  Port {int(ssh.port)}\n"
        f"  User {ssh.user}\n"
        f"  HostKeyAlias {view.id}\n"
        f"  UserKnownHostsFile {_quoted(known)}\n"
        "  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n"
        "  CheckHostIP no\n"
        "  UpdateHostKeys no\n"
        # A port can be held while its box restarts: a handshake that never comes must end, with words.
        "  ConnectTimeout 20\n"
        "  ServerAliveInterval 30\n"
        f"  LogLevel ERROR\n{_no_detour(ssh.host)}{identities}"
    )


def _no_detour(host: str) -> str:
    """A box on this machine is not behind the proxy or jump host that the user's settings name for every host."""
    return "  ProxyCommand none\n" if host == "::1" or host.startswith("127.") else ""


def options_of(path: Path, name: str) -> list[str]:
    """What the file says of this name as options of the ssh command, where they come before everything else."""
    for block in path.read_text().split("\n\n"):
        host, *settings = block.splitlines()
        if name in host.split()[1:]:
            return [word for setting in settings for word in ("-o", setting.strip())]
    return []


def files_of(folder: Path, endpoint: str) -> list[Path]:
    """The files of a cloud's reservations, also while it does not answer."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if is_of(path, endpoint)]


def names_of(folder: Path, endpoint: str) -> list[str]:
    """The names by which ssh knows a cloud's reservations, also while it does not answer; none if they are hidden."""
    try:
        return [name for path in files_of(folder, endpoint) if (name := name_of(path))]
    except OSError:
        return []


def name_of(path: Path) -> str:
    """The name of the reservation that a file is of; empty if another command has just taken it away."""
    return next(iter(_text_of(path).split()[1:]), "")


def find_offline(folder: Path, endpoint: str, reference: str) -> Path | None:
    """The file that a name or an id's beginning means, while the cloud does not answer."""
    for path in files_of(folder, endpoint):
        if path.name.startswith(short(reference)) and len(reference) >= 4:
            return path
        if reference in path.read_text().partition("\n")[0].split()[1:]:
            return path
    return None
