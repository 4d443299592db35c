"""Which lines are public keys."""

from __future__ import annotations

import base64
import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import KEY

from odc.domain.errors import InvalidRequest
from odc.domain.ssh_keys import KINDS, comment_of, fingerprint, kind_of, parse_public_key


def a_key(kind: str, *fields: bytes) -> str:
    blob = b"".join(struct.pack(">I", len(field)) + field for field in (kind.encode(), *fields))
    return f"{kind} {base64.b64encode(blob).decode()}"


def point(bits: int) -> bytes:
    return b"\x04" + b"p" * (2 * ((bits + 7) // 8))


GOOD = {
    "ssh-ed25519": a_key("ssh-ed25519", b"k" * 32),
    "ssh-rsa": a_key("ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xff" * 256),
    "ecdsa-sha2-nistp256": a_key("ecdsa-sha2-nistp256", b"nistp256", point(256)),
    "ecdsa-sha2-nistp384": a_key("ecdsa-sha2-nistp384", b"nistp384", point(384)),
    "ecdsa-sha2-nistp521": a_key("ecdsa-sha2-nistp521", b"nistp521", point(521)),
    "sk-ssh-ed25519@openssh.com": a_key("sk-ssh-ed25519@openssh.com", b"k" * 32, b"ssh:"),
    "sk-ecdsa-sha2-nistp256@openssh.com": a_key("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", point(256), b"ssh:"),
}


def test_every_kind_has_an_example_here() -> None:
    assert GOOD.keys() == KINDS


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_every_kind_of_openssh_is_accepted(kind: str) -> None:
    line = parse_public_key(GOOD[kind])
    assert line == GOOD[kind]
    assert kind_of(line) == kind
    assert comment_of(line) == ""
    assert fingerprint(line).startswith("SHA256:")


def test_a_line_is_made_clean() -> None:
    bare = " ".join(KEY.split()[:2])
    line = parse_public_key(f"  {bare.replace(' ', chr(9))}   me@laptop  of Jürgen \r\n")
    assert line == f"{bare} me@laptop of Jürgen"
    assert comment_of(line) == "me@laptop of Jürgen"


@pytest.mark.parametrize("odd", ["\xa0", "\u200b", "\x00", "\x1b[31m", "\u2028", "\u202e"])
def test_what_cannot_be_printed_in_a_comment_becomes_a_space(odd: str) -> None:
    line = parse_public_key(f"{KEY}{odd}end")
    assert line == f"{KEY} {odd[1:]}end"
    assert line.isprintable()


def test_the_fingerprint_is_the_one_that_openssh_prints() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert fingerprint(parse_public_key(key)) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "hello world",
        f'command="id" {KEY}',
        f"no-pty {KEY}",
        KEY.replace("ssh-ed25519", "ssh-dss", 1),
        f"{KEY}\n{KEY}",
        f"{KEY} {'x' * 9000}",
        "ssh-ed25519 not-base64!",
        KEY.replace("ssh-ed25519", "ssh-rsa", 1),
        KEY[:40],
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
        a_key("ssh-ed25519", b"k" * 31),
        a_key("ssh-ed25519", b"k" * 32, b"more"),
        a_key("ssh-ed25519"),
        a_key("ssh-rsa", b"\x01\x00\x01"),
        a_key("ssh-rsa", b"\x01\x00\x01", b"\x7f" * 64),
        a_key("ecdsa-sha2-nistp256", b"nistp384", point(384)),
        a_key("ecdsa-sha2-nistp256", b"nistp256", point(384)),
        a_key("sk-ssh-ed25519@openssh.com", b"k" * 32),
        a_key("sk-ssh-ed25519@openssh.com", b"k" * 32, b""),
        GOOD["ssh-rsa"][:-8],
    ],
)
def test_what_openssh_would_not_accept_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_public_key(line)


def test_a_private_key_is_named_as_such_and_not_repeated() -> None:
    secret = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----"
    with pytest.raises(InvalidRequest, match="private key") as caught:
        parse_public_key(secret)
    assert "c2Vj" not in caught.value.message


@given(st.text())
def test_whatever_text_comes_it_is_one_clean_line_or_refused(text: str) -> None:
    for line in (text, f"{KEY} {text}", f"ssh-rsa {text}"):
        try:
            parsed = parse_public_key(line)
        except InvalidRequest:
            continue
        assert parsed.isprintable()
        assert parse_public_key(parsed) == parsed


@given(st.binary(max_size=200), st.sampled_from(sorted(KINDS)))
def test_whatever_bytes_a_key_holds_no_other_error_comes(blob: bytes, kind: str) -> None:
    inside = struct.pack(">I", len(kind)) + kind.encode() + blob
    with contextlib.suppress(InvalidRequest):
        parse_public_key(f"{kind} {base64.b64encode(inside).decode()}")
