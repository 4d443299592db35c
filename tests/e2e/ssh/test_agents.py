"""Agents and passphrases: the right key is found, or what is in the way is named."""

from __future__ import annotations

import socket

import pytest
from tests.e2e.cloud import Done, Person
from tests.e2e.ssh.settings import everywhere
from tests.e2e.terminal import terminal

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
EIGHT = (
    "for i in 1 2 3 4 5 6 7 8; do ssh-keygen -qt ed25519 -N '' -f ~/.ssh/k$i && ssh-add -q ~/.ssh/k$i || exit 9; done"
)


def with_agent(person: Person, *lines: str) -> Done:
    """Run lines of a shell with an agent of their own."""
    return person.run("ssh-agent", "bash", "-c", "\n".join(lines))


def test_eight_keys_in_the_agent_do_not_hide_the_right_one(named: Person) -> None:
    done = with_agent(
        named,
        EIGHT,
        "ssh-add -q ~/.ssh/id_ed25519",
        "ssh settings echo by name",
        "gpu-dev connect settings -- hostname",
    )
    assert done.out == "by name\nsettings\n", done
    hidden = "mv ~/.ssh/id_ed25519 ~/.ssh/id_ed25519.pub ~"
    back = "mv ~/id_ed25519 ~/id_ed25519.pub ~/.ssh"
    lines = [EIGHT.replace("ssh-keygen", "test -e ~/.ssh/k$i || ssh-keygen"), "ssh-add -q ~/.ssh/id_ed25519", hidden]
    done = with_agent(named, *lines, "gpu-dev list >/dev/null; ssh settings echo agent only", back)
    assert done.out == "agent only\n", done


def test_an_agent_that_only_the_settings_name_is_used_and_its_keys_are_offered(named: Person) -> None:
    everywhere(named, "IdentityAgent ~/agent.sock")
    lines = [
        "ssh-agent -a ~/agent.sock > ~/agent.out; . ~/agent.out > /dev/null",
        "ssh-add -q ~/.ssh/id_ed25519; mv ~/.ssh/id_ed25519 ~/.ssh/id_ed25519.pub ~",
        "unset SSH_AUTH_SOCK",
        "gpu-dev list > /dev/null; ssh settings echo in",
        "gpu-dev connect settings --diagnose | grep 'your agent has'",
        "gpu-dev config set ssh_key ''; gpu-dev reserve -t t4 -g 1 -h 0.5 -n other --disk none",
        "mv ~/id_ed25519 ~/id_ed25519.pub ~/.ssh; kill $SSH_AGENT_PID",
    ]
    try:
        done = named.run("bash", "-c", "\n".join(lines))
    finally:
        named.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    assert done.out.startswith("in\n  your agent has    SHA256:"), done
    assert "ssh-add -L > ~/agent.pub" in done.err


def test_a_passphrase_is_asked_for_and_a_setting_that_forbids_it_is_named(named: Person) -> None:
    named.run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", ".ssh/id_ed25519")
    try:
        with terminal(named, "gpu-dev", "connect", "settings", "--", "echo it is in") as screen:
            screen.answer("Enter passphrase", "secret\r")
            screen.expect("it is in")
            assert screen.ended() == 0
        everywhere(named, "BatchMode yes")
        done = named.in_box("settings", "true")
        assert done.code == 255
        assert "if it has a passphrase: ssh-add ~/.ssh/id_ed25519" in done.err
        assert "ssh may not ask   ~/.ssh/config:3: BatchMode yes" in done.err
    finally:
        named.run("ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", ".ssh/id_ed25519")


def test_an_agent_that_does_not_answer_is_named(named: Person) -> None:
    path = named.home / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        path.chmod(0o777)
        silent.listen(50)
        told = named.ok("connect", "settings", "--diagnose", SSH_AUTH_SOCK=str(path))
        assert f"Your agent does not answer, and ssh waits for it: {path}\n" in told
        assert "  without it   SSH_AUTH_SOCK= gpu-dev connect settings\n" in told
        assert "restarting" not in told
        everywhere(named, f"IdentityAgent {path}")
        assert f"~/.ssh/config:3: IdentityAgent {path}" in named.ok("connect", "settings", "--diagnose")
    path.unlink()
    assert named.in_box("settings", "echo in", SSH_AUTH_SOCK="").out == "in\n"
