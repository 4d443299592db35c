"""A file that a user gives as their key: its public keys, or the actual format and the command that converts it.

The encodings of Windows editors and shells (byte order mark, UTF-16, CRLF) are accepted. No part of a private key is
sent or printed.
"""

from __future__ import annotations

import codecs
import re
import shlex
import stat
from pathlib import Path

from odc.domain.commands import gpu_dev
from odc.domain.errors import Hint, InvalidRequest
from odc.domain.names import cut
from odc.domain.ssh_keys import KINDS, parse_public_key

MAX_KEY_FILE_BYTES = 1 << 16
_SET = gpu_dev("config set ssh_key")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # begins with that of UTF-16
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LINES = re.compile(r"\r\n|\n|\r")
_CERTIFICATE = re.compile(r"\S+-cert-v0[0-9]@openssh\.com\s")
_FOREIGN = {
    "-----BEGIN CERTIFICATE-----": "an X.509 certificate",
    "-----BEGIN PGP ": "a PGP key",
}
"""First bytes of files without an SSH key, and the name of the format."""
_CONVERTED = {
    "---- BEGIN SSH2 PUBLIC KEY ----": ("a public key in the format of ssh.com and PuTTY", "ssh-keygen -i -f"),
    "-----BEGIN PUBLIC KEY-----": ("a public key in PEM format", "ssh-keygen -i -m PKCS8 -f"),
    "-----BEGIN RSA PUBLIC KEY-----": ("a public key in PEM format", "ssh-keygen -i -m PEM -f"),
}
"""First line of public keys in other formats, to the format's name and the command that prints the key in OpenSSH's."""

_ED25519_PEM = re.compile(r"-----BEGIN (PRIVATE|PUBLIC) KEY-----\s+\S{4,8}BQYDK2Vw")
"""Ed25519 in PEM: the algorithm's object identifier, 06 03 2b 65 70, at the same place in every such file."""
_ED25519_LINE = "tail -c 33 | base64 | sed 's/^A/ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI/'"
"""Converts OpenSSL's output, which ends with a zero byte and the 32 bytes of the key: the header, ending with 32,
replaces the zero. `ssh-keygen` before OpenSSH 9.6 cannot read these files.
"""


def read_keys(path: Path) -> tuple[str, ...]:
    """Return the public keys in a file, usually one; comments and empty lines between them are left out.

    Raises:
        InvalidRequest: there is none, or a line is not a public key; what the file is instead, and what to type.
    """
    text = _text_of(path)
    lines = [line.strip() for line in _LINES.split(text)]
    _check_format(path, text.lstrip())
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not numbered:
        raise InvalidRequest(
            f"{path} is empty" if not text.strip() else f"{path} holds no public key", *_sibling_hints(path)
        )
    return tuple(_key(path, number, line) for number, line in numbered)


def _text_of(path: Path) -> str:
    """Return the file as text, in any of the accepted encodings."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InvalidRequest(f"{path} is a directory; name a public key's file", *_inside(path))
        # A pipe that the shell made for `<(command)` has a writer; any other would be waited for in vain.
        if not (stat.S_ISREG(mode) or str(path).startswith(("/dev/", "/proc/self/fd/"))):
            raise InvalidRequest(f"{path} is not a regular file; name a public key's file")
        with path.open("rb") as file:
            content = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(
            f"{cut(str(path), 300)} cannot be read: {error.strerror}", *_sibling_hints(path)
        ) from error
    if len(content) > MAX_KEY_FILE_BYTES:
        raise InvalidRequest(f"{path} is larger than {MAX_KEY_FILE_BYTES >> 10} KiB; it is not a public key")
    text = _decoded(content)
    if "\0" in text:
        raise InvalidRequest(f"{path} is a binary file; it holds no public key", *_sibling_hints(path))
    return text


def _decoded(content: bytes) -> str:
    """Return the text; without a byte order mark, UTF-16 is known by the zeros next to its first two letters."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, errors="replace")
    for zeros, letters, encoding in ((1, 0, "utf-16-le"), (0, 1, "utf-16-be")):
        if content[zeros:4:2] == b"\0\0" and b"\0" not in content[letters:4:2]:
            return content.decode(encoding, errors="replace")
    return content.decode(errors="replace")


def _check_format(path: Path, text: str) -> None:
    """Refuse a file that is not a list of OpenSSH public keys, and name its actual format."""
    first = next((line.strip() for line in _LINES.split(text) if line.strip()), "")
    if text.startswith("PuTTY-User-Key-File-"):
        raise InvalidRequest(
            f"{path} is a private key of PuTTY; it stays with you. Give the public one",
            *(_sibling_hints(path) or (_made_by("puttygen -L", path),)),
        )
    is_ed25519 = bool(_ED25519_PEM.match(text))
    if "PRIVATE KEY" in text:
        raise InvalidRequest(
            f"{path} is a private key; it stays with you. Give the public one",
            *(_sibling_hints(path) or _made_from_private(path, first, is_ed25519)),
        )
    if first in _CONVERTED:
        what, command = _CONVERTED[first]
        made = _made_by_openssl(path, public=True) if is_ed25519 else _made_by(command, path)
        raise InvalidRequest(f"{path} is {what}; OpenSSH's is needed", made)
    foreign = next((what for begin, what in _FOREIGN.items() if first.startswith(begin)), "")
    if foreign:
        raise InvalidRequest(f"{path} is {foreign}, not an SSH key", *_sibling_hints(path))


def _key(path: Path, number: int, line: str) -> str:
    if _CERTIFICATE.match(line):
        public = path.with_name(path.name.replace("-cert.pub", ".pub"))
        ways = (_set_to(public),) if public != path and public.is_file() else ()
        raise InvalidRequest(f"{path} is an SSH certificate; boxes open to plain keys. Give the public key", *ways)
    try:
        return parse_public_key(line)
    except InvalidRequest as error:
        ways = (_without_options(path),) if set(line.split()[1:]) & KINDS else ()
        raise InvalidRequest(f"{path}, line {number}: {error.message}", *error.hints, *ways) from error


def _without_options(path: Path) -> Hint:
    """Return the command that extracts the keys without their prefixes."""
    kinds = "|".join(re.escape(kind) for kind in sorted(KINDS))
    return _piped(f"grep -oE {shlex.quote(f'({kinds}) AAAA.*')}", path)


def _sibling_hints(path: Path) -> tuple[Hint, ...]:
    """Return a hint to the public half next to a file that is not a public key or does not exist."""
    candidates = (path.with_name(path.name + ".pub"), path.with_suffix(".pub") if path.name else path)
    found = next((other for other in candidates if other != path and other.is_file()), None)
    return (_set_to(found),) if found else ()


def _inside(folder: Path) -> tuple[Hint, ...]:
    """Return a hint to a public key in a folder, if there is one; OpenSSH's default names first."""
    try:
        found = sorted(folder.glob("*.pub"), key=lambda path: (not path.name.startswith("id_"), path.name))
    except OSError:
        return ()
    return (_set_to(found[0]),) if found else ()


def _set_to(public: Path) -> Hint:
    return Hint("the public one", _SET + f" {shlex.quote(str(public))}")


def _made_from_private(path: Path, first: str, is_ed25519: bool) -> tuple[Hint, ...]:
    """Return the commands that make the public key of a private one; an encrypted one does not show its kind."""
    if is_ed25519:
        return _made_by_openssl(path), Hint("a new one, for an ssh before 9.6", "ssh-keygen -t ed25519")
    made = _made_by("ssh-keygen -y -f", path, private=True)
    if first == "-----BEGIN ENCRYPTED PRIVATE KEY-----":
        return made, Hint("if it is an Ed25519 key", _made_by_openssl(path).command)
    return (made,)


def _made_by_openssl(path: Path, public: bool = False) -> Hint:
    """As `_made_by`, for an Ed25519 key in PEM."""
    read = f"openssl pkey {'-pubin ' if public else ''}-pubout -outform DER -in {shlex.quote(str(path))}"
    return _written(f"{read} | {_ED25519_LINE}", path)


def _made_by(command: str, path: Path, private: bool = False) -> Hint:
    """Return the command that writes the public key in OpenSSH's format to a new file, and sets it."""
    first = ""
    if private and path.stat().st_mode & 0o077:
        first = f"chmod go= {shlex.quote(str(path))} && "  # ssh-keygen refuses a private key that others may read
    piped = _piped(command, path)
    return Hint(piped.label, first + piped.command)


def _piped(command: str, path: Path) -> Hint:
    return _written(f"{command} {shlex.quote(str(path))}", path)


def _written(command: str, path: Path) -> Hint:
    """Return the command with its output in a new file next to this one, which is then set."""
    fresh = path.with_name(path.name + ".pub" if path.suffix != ".pub" else f"{path.stem}.openssh.pub")
    target = shlex.quote(str(fresh))
    return Hint("make it", f"{command} > {target} && " + _SET + f" {target}")
