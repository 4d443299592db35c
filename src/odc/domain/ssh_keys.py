"""Public SSH keys as text: which lines are keys, and their fingerprints. All of OpenSSH's own types are accepted."""

from __future__ import annotations

import base64
import binascii
import hashlib

from odc.domain.errors import InvalidRequest
from odc.domain.names import cut

_ED25519_BYTES = 32
_RSA_BITS = 1024
_FIELDS = {
    "ssh-ed25519": ("key",),
    "ssh-rsa": ("exponent", "modulus"),
    "ecdsa-sha2-nistp256": ("curve", "point"),
    "ecdsa-sha2-nistp384": ("curve", "point"),
    "ecdsa-sha2-nistp521": ("curve", "point"),
    "sk-ssh-ed25519@openssh.com": ("key", "application"),
    "sk-ecdsa-sha2-nistp256@openssh.com": ("curve", "point", "application"),
}
"""Kind to the fields that follow its name inside the key. Source: RFC 4253, 5656, 8709, OpenSSH's PROTOCOL.u2f."""

KINDS = frozenset(_FIELDS)
MAX_LENGTH = 8192


def parse_public_key(line: str) -> str:
    """Return the key as one clean line: kind, base64 part, and the comment if there is one.

    Options before a key (`command=…`) are refused: a key gives access to the whole box. In a comment, which OpenSSH
    ignores, a character that cannot be printed (a no-break space, an escape) becomes a space.

    Raises:
        InvalidRequest: the line is not a public key that OpenSSH accepts; the message identifies a private key as such.
    """
    if "PRIVATE KEY" in line:
        raise InvalidRequest("this is a private key; give the public one, whose name ends in .pub")
    if len(line) > MAX_LENGTH:
        raise InvalidRequest(f"{cut(line)!r} is longer than {MAX_LENGTH} characters; it is not a public SSH key")
    text = line.strip().removeprefix("\ufeff")
    if "\n" in text or "\r" in text:
        raise InvalidRequest(f"{cut(text)!r} is more than one line; a public key is one line")
    words = "".join(character if character.isprintable() else " " for character in text).split()
    if not words or words[0] not in KINDS:
        raise InvalidRequest(_what_else(text, words))
    if len(words) < 2:
        raise InvalidRequest(f"{cut(text)!r} names a kind of key without the key")
    _check_inside(words[0], words[1])
    return " ".join(words)


def _what_else(text: str, words: list[str]) -> str:
    """Return the description of a line that does not begin with a known kind of key."""
    shown = repr(cut(text))
    if words and words[0] == "ssh-dss":
        return f"{shown} is a DSA key, which OpenSSH does not accept any more; make another: ssh-keygen -t ed25519"
    if KINDS.intersection(words):
        return f"{shown} has options or a host name in front of the key; a key opens a box without any, so remove them"
    return f"{shown} is not a public SSH key of a known kind"


def _check_inside(kind: str, encoded: str) -> None:
    shown = f"the key {kind} {cut(encoded)}"
    try:
        fields = _split(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{shown} is damaged") from error
    if fields[:1] != [kind.encode()]:
        raise InvalidRequest(f"{shown} is damaged: it says that it is of another kind")
    parts = dict(zip(_FIELDS[kind], fields[1:], strict=False))
    if len(fields) != len(_FIELDS[kind]) + 1 or not all(parts.values()) or not _is_sound(kind, parts):
        raise InvalidRequest(f"{shown} is damaged")
    if "modulus" in parts and int.from_bytes(parts["modulus"], "big").bit_length() < _RSA_BITS:
        raise InvalidRequest(f"{shown} is shorter than {_RSA_BITS} bits, which OpenSSH does not accept")


def _split(blob: bytes) -> list[bytes]:
    """Return the strings of a blob, each after its length in four bytes (RFC 4251, section 5).

    Raises:
        ValueError: it does not end with the end of a string.
    """
    fields = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < end:
            raise ValueError("cut off")
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields


def _is_sound(kind: str, parts: dict[str, bytes]) -> bool:
    """Whether lengths and curve are those of the kind."""
    if "key" in parts:
        return len(parts["key"]) == _ED25519_BYTES
    if "curve" not in parts:
        return True
    curve = kind.removeprefix("sk-").removesuffix("@openssh.com").removeprefix("ecdsa-sha2-")
    bits = int(curve.removeprefix("nistp"))
    return parts["curve"] == curve.encode() and len(parts["point"]) == 1 + 2 * ((bits + 7) // 8)


def fingerprint(line: str) -> str:
    """Return the `SHA256:…` fingerprint of a key from `parse_public_key`, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def kind_of(line: str) -> str:
    """The key's kind, the first word."""
    return line.split()[0]


def comment_of(line: str) -> str:
    """The key's comment; empty if it has none."""
    return " ".join(line.split()[2:])
