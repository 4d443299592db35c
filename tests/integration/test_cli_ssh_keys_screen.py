"""What helps whoever has no key that the box accepts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from odc.api.messages.users import KeySource, KeyView, Me
from odc.cli.local_keys import KeyFile
from odc.cli.screens import me_lines
from odc.cli.ssh_keys_screen import key_lines

HOME = Path("/home/ada")


def me(*keys: KeyView, github_user: str = "") -> Me:
    return Me(user="ada", principal="unix:1", admin=False, github_user=github_user, github_fault="", keys=keys)


def github_key(fingerprint: str) -> KeyView:
    return KeyView(fingerprint=fingerprint, kind="ssh-ed25519", comment="", source=KeySource.GITHUB)


def a_file(fingerprint: str) -> KeyFile:
    return KeyFile(fingerprint, HOME / ".ssh/work.pub", HOME / ".ssh/work")


@pytest.fixture
def key(tmp_path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return (tmp_path / "key.pub").read_text().strip()


def test_an_accepted_key_that_is_locked_is_to_be_unlocked() -> None:
    lines = key_lines(me(github_key("SHA256:a"), github_user="octocat"), (), [a_file("SHA256:a")], HOME)
    assert lines[0] == "  the box accepts   SHA256:a (octocat on GitHub)"
    assert lines[1] == "  your agent has    no key"
    assert lines[-1].endswith("ssh-add ~/.ssh/work")


def test_a_very_long_comment_of_a_key_is_cut() -> None:
    own = KeyView(fingerprint="SHA256:a", kind="ssh-ed25519", comment="c" * 7000, source=KeySource.OWN)
    for lines in (key_lines(me(own), (), [], HOME), me_lines(me(own))):
        assert max(map(len, lines)) < 150


def test_another_key_is_to_be_set_or_added_on_github() -> None:
    lines = key_lines(me(github_key("SHA256:a"), github_user="octocat"), (), [a_file("SHA256:b")], HOME)
    assert lines[-3:] == [
        "  load that key     ssh-add FILE, with the private half of SHA256:a",
        "  use this one      gpu-dev config set ssh_key ~/.ssh/work.pub",
        "  or on GitHub      add your public key to octocat: https://github.com/settings/keys",
    ]


def test_a_key_of_the_agent_is_to_be_set_and_none_is_to_be_made(key: str) -> None:
    lines = key_lines(me(github_key("SHA256:a")), [key], [], HOME)
    assert lines[-1] == "  use your agent's  ssh-add -L > ~/agent.pub && gpu-dev config set ssh_key ~/agent.pub"
    assert "ssh-keygen" not in "".join(lines)


def test_whoever_has_no_key_at_all_is_to_make_one() -> None:
    lines = key_lines(me(), (), [], HOME)
    assert "no key: you have set none" in lines[0]
    assert "ssh-keygen -t ed25519 && gpu-dev config set ssh_key" in lines[-1]
