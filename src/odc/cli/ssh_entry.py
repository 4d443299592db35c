"""The `Host` blocks of a reservation, which make `ssh NAME`, scp, VS Code and Cursor work. Pure.

ssh takes the first value that it finds for an option, so a block's values override the user's `Host *`. A block sets
every option that could keep the user out of the box, and leaves all others to the user. Only options that OpenSSH 7.3
and later know are used: one that ssh does not know would make it refuse the whole configuration. Newer ones:
`ssh_newer_options.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from odc.api.messages.reservations import BoxView, ReservationView, SshView
from odc.cli.ssh_probe import is_loopback
from odc.domain.names import short
from odc.domain.status import Status

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*", re.ASCII)
QUOTABLE = re.compile(r'[^"\\\x00-\x1f\x7f]+')
NOWHERE = "not-ready.invalid"
"""The host of a box that is not ready yet. No name ends in `.invalid` (RFC 2606)."""
_SOCKET_LENGTH = 90
"""Characters of a ControlPath: 108 for a socket's address, less what ssh appends while it makes one."""

_FIXED = """\
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  CheckHostIP no
  UpdateHostKeys no
  VerifyHostKeyDNS no
  NoHostAuthenticationForLocalhost no
  CanonicalizeHostname no
  AddressFamily any
  Ciphers +aes128-ctr
  KexAlgorithms +curve25519-sha256@libssh.org
  MACs +hmac-sha2-256
  PubkeyAuthentication yes
  PubkeyAcceptedKeyTypes +ssh-ed25519
  PreferredAuthentications publickey
  ConnectTimeout 20
  ServerAliveInterval 30
  ServerAliveCountMax 3
  LogLevel ERROR
"""
"""The same in every block. `+` means OpenSSH's own list and this one, which is in it: the user's list does not apply.
A port can accept connections while its box restarts: ConnectTimeout ends a handshake that never comes.
"""


def quoted(path: Path) -> str:
    """Return a path escaped for ssh, in which `%` begins a token."""
    return '"' + str(path).replace("%", "%%") + '"'


def alias(name: str, view_id: str) -> str:
    """Return the unique name of an entry: `train.b1946ac9`."""
    return f"{name}.{short(view_id)}"


class Cloud(NamedTuple):
    """The cloud of a box.

    Attributes:
        here: it is on this machine, and so are its loopback addresses.
        program: `gpu-dev` as it is typed for it.
    """

    here: bool
    program: str


def block(
    view: ReservationView, box: BoxView, known: Path, names: tuple[str, ...], last_lines: str, cloud: Cloud
) -> str:
    """Return the block of a box; empty if ssh could misread a value. That of a box that is not ready yet refuses to
    connect: its port may be open and answer nothing.

    Args:
        view: its reservation.
        box: the box.
        known: the file with the pinned host key.
        names: how ssh shall know it.
        last_lines: the lines that depend on the user: the keys to try, and newer options to override.
        cloud: of the box.
    """
    ready = box.ssh if view.state is Status.ACTIVE else None
    ssh = ready or SshView(host=NOWHERE, port=22, user="dev", command="")
    if not all(WORD.fullmatch(word) for word in (view.name, box.name, ssh.host, ssh.user)):
        return ""
    kind = view.host_key.split()[0]
    algorithms = "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind
    return (
        f"Host {' '.join(names)}\n"
        f"  HostName {ssh.host}\n"
        f"  Port {int(ssh.port)}\n"
        f"  User {ssh.user}\n"
        f"  HostKeyAlias {view.id}\n"
        f"  HostKeyAlgorithms {algorithms}\n"
        f"  UserKnownHostsFile {quoted(known)}\n"
        f"  ControlPath {_control_path(known.parent, view, box)}\n"
        f"{'' if ready else _not_ready(view.name, cloud)}{_FIXED}"
        f"{_no_detour(ssh.host) if cloud.here else ''}{last_lines}"
    )


def _control_path(folder: Path, view: ReservationView, box: BoxView) -> str:
    """Return a path for this box only: a shared connection must not lead to an earlier box with the same name or
    port.
    """
    path = folder / f"{short(view.id)}-{box.rank}.mux"
    return quoted(path) if len(str(path)) <= _SOCKET_LENGTH else "none"


def _not_ready(name: str, cloud: Cloud) -> str:
    """Return the lines that refuse to connect. They set the same options as those of a box that is there, so that what
    ssh makes of the entry can be asked before.
    """
    text = f"{name} was not ready when this was written; to wait for it: {cloud.program} connect {name}"
    bind = "  BindAddress 0.0.0.0\n" if cloud.here else ""
    return f"{_refuse(text)}{bind}"


def _no_detour(host: str) -> str:
    """A box on this machine is not behind a proxy, a jump host or a network interface."""
    if not is_loopback(host):
        return ""
    any_address = "::" if ":" in host else "0.0.0.0"  # noqa: S104 (where ssh connects from)
    return f"  ProxyCommand none\n  BindAddress {any_address}\n"


def refusal(name: str, others: Sequence[str]) -> str:
    """Return a block that refuses to connect and names the reservations to use instead.

    Args:
        name: the common name of several reservations.
        others: another name of each.
    """
    instead = " or ".join(f"ssh {other}" for other in others)
    text = f"{name} is the name of {len(others)} reservations in different clouds: {instead}"
    return f"Host {name}\n{_refuse(text)}  ControlPath none\n"


def _refuse(text: str) -> str:
    """Return the lines by which ssh prints a text of plain words instead of connecting."""
    return f"  ProxyCommand sh -c 'echo \"{text}\" >&2; exit 1'\n  LogLevel QUIET\n"
