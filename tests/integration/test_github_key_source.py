"""GitHub's keys over real HTTP: its answers, its limits, and everything that can go wrong on the way."""

from __future__ import annotations

import base64
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.builders import KEY
from tests.github_server import GitHub, serve_github

from odc.adapters.github.key_source import GitHubKeySource
from odc.domain.errors import InvalidRequest, NotFound, ProviderUnavailable

BARE = " ".join(KEY.split()[:2])


@pytest.fixture
def github() -> Iterator[GitHub]:
    with serve_github() as found:
        found.set_keys("octocat", KEY)
        yield found


def source(github: GitHub, timeout_s: float = 2.0) -> GitHubKeySource:
    return GitHubKeySource(github.address, github.address, timeout_s)


def test_only_whole_keys_of_known_kinds_are_kept_once_and_without_comments(github: GitHub, tmp_path: Path) -> None:
    wanted = [BARE]
    for kind in ("rsa", "ecdsa"):
        path = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True, timeout=30)
        wanted.append(" ".join(path.with_suffix(".pub").read_text().split()[:2]))
    github.set_keys(
        "octocat",
        KEY,
        f"{wanted[1]} a comment",
        wanted[2],
        KEY,
        "ssh-dss AAAAB3NzaC1kc3MAAACB",
        f'command="rm -rf /" {BARE}',
        "ssh-ed25519 not-base64",
        BARE[:40],
        BARE.replace("ssh-ed25519", "ssh-rsa", 1),
        "",
        "# comment",
    )
    assert source(github).fetch("octocat").keys == tuple(wanted)


def test_only_unusable_keys_are_as_good_as_none_and_it_says_so(github: GitHub) -> None:
    github.set_keys("octocat", "ssh-dss AAAAB3NzaC1kc3MAAACB")
    with pytest.raises(NotFound, match="octocat has no SSH key of a kind"):
        source(github).fetch("octocat")


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_keys_come_even_when_the_number_cannot_be_had(github: GitHub, status: int) -> None:
    github.api_status = status
    fetched = source(github).fetch("octocat")
    assert (fetched.keys, fetched.user_id) == ((BARE,), 0)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503])
def test_every_other_status_is_a_passing_fault_that_names_the_login(github: GitHub, status: int) -> None:
    github.status = status
    with pytest.raises(ProviderUnavailable, match="octocat"):
        source(github).fetch("octocat")


def test_a_redirect_is_followed_nowhere(github: GitHub) -> None:
    with serve_github() as other:
        other.set_keys("octocat", KEY)
        github.location = f"{other.address}/octocat.keys"
        with pytest.raises(ProviderUnavailable, match="302"):
            source(github).fetch("octocat")
        assert other.asked == []


def test_a_page_in_place_of_keys_says_nothing_about_the_login(github: GitHub) -> None:
    github.set_keys("octocat", "<!DOCTYPE html>", "<html>Log in to this network</html>")
    with pytest.raises(ProviderUnavailable, match="not a list of keys of octocat"):
        source(github).fetch("octocat")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x01 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nssh-ed25519 AAAA",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500 + b"\r\n",
    ],
)
def test_a_broken_answer_is_a_passing_fault(github: GitHub, raw: bytes) -> None:
    github.raw = raw
    with pytest.raises(ProviderUnavailable, match="octocat"):
        source(github).fetch("octocat")


def test_an_endless_answer_is_not_read_to_its_end(github: GitHub) -> None:
    github.set_keys("octocat", *["# filler " + "x" * 1000] * 2000, KEY)
    with pytest.raises(ProviderUnavailable, match="longer"):
        source(github).fetch("octocat")


@pytest.mark.parametrize("fault", ["silent", "drip"])
def test_nobody_waits_for_a_slow_answer(github: GitHub, fault: str) -> None:
    github.set_keys("octocat", KEY, KEY)
    setattr(github, fault, True)
    begun = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="octocat"):
        source(github, timeout_s=0.3).fetch("octocat")
    assert time.monotonic() - begun < 5


def test_nothing_that_listens_is_a_passing_fault() -> None:
    with serve_github() as github:
        address = github.address
    with pytest.raises(ProviderUnavailable, match="octocat"):
        GitHubKeySource(address, address, 2.0).fetch("octocat")
    with pytest.raises(ProviderUnavailable, match="octocat"):
        GitHubKeySource("http://nowhere.invalid", address, 2.0).fetch("octocat")


def test_several_threads_may_ask_at_once(github: GitHub) -> None:
    asked = source(github)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asked.fetch("octocat").keys, range(24)))
    assert set(found) == {(BARE,)}


def test_the_api_is_not_asked_about_keys_that_are_known(github: GitHub) -> None:
    assert source(github).fetch("octocat", (BARE,)).keys == (BARE,)
    assert github.asked == ["/octocat.keys"]
    assert source(github).fetch("octocat", ("ssh-ed25519 other",)).user_id == 583231


def test_more_keys_than_a_box_is_given_are_refused(github: GitHub) -> None:
    lines = [f"ssh-rsa {encoded_rsa(number)}" for number in range(201)]
    github.set_keys("octocat", *lines)
    with pytest.raises(InvalidRequest, match="octocat has 201 keys on GitHub; at most 200"):
        source(github).fetch("octocat")
    github.set_keys("octocat", *lines[:200])
    assert len(source(github).fetch("octocat").keys) == 200


def encoded_rsa(number: int) -> str:
    """The base64 part of a well-formed RSA key, another one for each number."""
    fields = (b"ssh-rsa", b"\x01\x00\x01", b"\x00" + b"\xff" * 128 + number.to_bytes(2, "big"))
    return base64.b64encode(b"".join(struct.pack(">I", len(field)) + field for field in fields)).decode()
