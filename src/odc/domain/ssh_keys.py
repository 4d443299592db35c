"""Public SSH keys as text: which lines are keys, and their fingerprints. All of OpenSSH's own types are accepted."""

from __future__ import annotations

import base64
import binascii
import hashlib

from odc.domain.errors import InvalidRequest

KINDS = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
MAX_LENGTH = 8192


def parse_public_key(line: str) -> str:
    """The key as one clean line: kind, base64 part, and the comment if there is one.

    Options in front of a key (`command=…`) are refused: a key opens the whole box or nothing.

    Raises:
        InvalidRequest: the line is no public key of a known kind; a private key is named as such.
    """
    if "PRIVATE KEY" in line:
        raise InvalidRequest("this is a private key; give the public one, whose name ends in .pub")
    words = line.split()
    if len(line) > MAX_LENGTH or not line.strip().isprintable() or len(words) < 2 or words[0] not in KINDS:
        raise InvalidRequest(f"{line[:40]!r} is not a public SSH key of a known kind")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the key {words[0]} {words[1][:20]}… is damaged") from error
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length] != words[0].encode():
        raise InvalidRequest(f"the key {words[0]} {words[1][:20]}… is damaged: it says that it is of another kind")
    return " ".join((words[0], words[1], " ".join(words[2:]))).strip()


def fingerprint(line: str) -> str:
    """`SHA256:…` of a key as `parse_public_key` gives it, in the form that `ssh-keygen -l` prints."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def kind_of(line: str) -> str:
    """The key's kind, the first word."""
    return line.split()[0]


def comment_of(line: str) -> str:
    """The key's comment; empty if it has none."""
    return " ".join(line.split()[2:])
