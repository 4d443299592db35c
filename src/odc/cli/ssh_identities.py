"""Selects the keys that ssh offers to a box: only those that the box accepts, from files, agents and cards alike.

A server gives up after a few keys that it does not accept, and ssh offers the agent's keys before most others. So the
public half of every accepted key is written to a file that the entry names, together with `IdentitiesOnly yes`: then
ssh takes exactly that key from an agent, a smart card or a security key, and ignores the others there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from odc.cli.key_files import read_keys
from odc.cli.local_keys import find_public_keys
from odc.cli.settings_file import is_file, private_half
from odc.cli.ssh_entry import QUOTABLE, quoted
from odc.domain.errors import InvalidRequest

KEY = "-key"
PUBLIC = f"{KEY}.pub"
DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk")
"""The files that ssh tries by default; keys that need a touch come last."""


class Identities(NamedTuple):
    """The lines of a Host block, and the files that they need: name in our folder to content."""

    lines: str
    files: dict[str, str]

    def after(self, lines: str) -> Identities:
        """Return a copy with other lines of the block before these."""
        return self._replace(lines=lines + self.lines)


_MAX_KEYS = 50
"""ssh refuses a configuration that names more than 100 keys, the user's own included."""

NONE = Identities("", {})


def identities(homes: Sequence[Path], identity: Path | None, keys: Iterable[str], folder: Path) -> Identities:
    """Return the keys for a Host block.

    Args:
        homes: where `.ssh` may be: HOME's, and the one that ssh uses.
        identity: the private half of the key that the user has set; None if it is not on this machine.
        keys: the public keys that the box accepts, as `kind base64`; none if they are not known.
        folder: of our own files.
    """
    accepted = {" ".join(key.split()[:2]) for key in keys}
    if not accepted:
        return Identities(_lines(_without_keys(homes, identity)), {})
    files = {f"{_digest(key)}{PUBLIC}": f"{key}\n" for key in sorted(accepted)}
    # Paths without .pub: ssh reads the public half next to them, and does not warn that there is no private half.
    public = [folder / name.removesuffix(".pub") for name in files]
    named = list(dict.fromkeys([*([identity] if identity else []), *_private(homes, accepted), *public]))
    return Identities("  IdentitiesOnly yes\n" + _lines(named[:_MAX_KEYS]), files)


def _digest(key: str) -> str:
    import hashlib  # OpenSSL takes milliseconds to load

    return hashlib.sha256(base64.b64decode(key.split()[1])).hexdigest()[:16]


def _lines(paths: Iterable[Path]) -> str:
    return "".join(f"  IdentityFile {quoted(path)}\n" for path in paths if QUOTABLE.fullmatch(str(path)))


def _without_keys(homes: Sequence[Path], identity: Path | None) -> list[Path]:
    """Return the user's key and the default ones; none if ssh finds the key by itself."""
    usual = [path for home in homes for path in _default_identities(home)]
    return [] if identity is None or identity in usual else [identity, *(path for path in usual if is_file(path))]


def _default_identities(home: Path) -> list[Path]:
    return [home / ".ssh" / name for name in DEFAULT_IDENTITIES]


def _private(homes: Sequence[Path], accepted: set[str]) -> list[Path]:
    """Return private keys that are accepted, or that might be because they have no public half; keys that need a touch
    last.
    """
    found = []
    for home in homes:
        kinds = {private: _kinds(path) for path in find_public_keys(home) if (private := private_half(path))}
        found += [path for path, kind in kinds.items() if kind & accepted]
        found += [path for path in _default_identities(home) if path not in kinds and is_file(path)]
    return sorted(found, key=lambda path: path.name.endswith("_sk"))


def _kinds(public: Path) -> set[str]:
    """Return the keys in a public key's file, without comments."""
    try:
        return {" ".join(key.split()[:2]) for key in read_keys(public)}
    except InvalidRequest:
        return set()
