"""Names by which ssh knows boxes never hide hosts of the user's own."""

from __future__ import annotations

import pytest
from tests.e2e.cloud import Person

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def test_names_are_told_once_ssh_knows_them(named: Person) -> None:
    assert named.ok("config", "ssh-include", "enable").splitlines()[-1] == "Next: ssh settings"
    assert "ssh settings        ssh dev@" in named.ok("show", "settings")
    named.ok("config", "ssh-include", "disable")
    assert "ssh settings " not in named.ok("show", "settings")


@pytest.mark.parametrize("first", ["Port 22", "User nobody", "ProxyJump gate", "HostName elsewhere"])
def test_no_name_is_told_where_the_line_comes_after_settings_for_every_host(box: Person, first: str) -> None:
    box.run("bash", "-c", f"printf 'Host *\\n  {first}\\nInclude ~/.gpu-dev/*-sshconfig\\n' > .ssh/config")
    try:
        assert "  names     gpu-dev config ssh-include enable\n" in box.ok("show", "settings")
        assert "Put them first: gpu-dev config ssh-include enable\n" in box.ok("connect", "settings", "--diagnose")
        assert box.ok("config", "ssh-include", "enable").splitlines()[-1] == "Next: ssh settings"
        assert box.run("ssh", "settings", "echo in").out == "in\n"
    finally:
        box.run("rm", ".ssh/config")


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ("Host olymp\n  HostName olymp.example\n", "~/.ssh/config:2"),
        ("Host other\nHost oly* !x\n  User me\n", "~/.ssh/config:3"),
        ("Match originalhost olymp\n  Port 7\n", "~/.ssh/config:2"),
        ("Include conf.d/*\n", "~/.ssh/conf.d/work:1"),
        ("", "~/.ssh/known_hosts:1"),
    ],
)
def test_a_name_of_ones_own_host_is_refused_and_never_hidden(named: Person, own: str, place: str) -> None:
    named.run(
        "bash",
        "-c",
        f"mkdir -p .ssh/conf.d; printf 'Host olymp\\n User me\\n' > .ssh/conf.d/work; printf '{own}' >> .ssh/config",
    )
    if not own:
        named.run("bash", "-c", "echo olymp $(cut -d' ' -f1,2 .ssh/id_ed25519.pub) > .ssh/known_hosts")
    before = named.run("ssh", "-G", "olymp").out
    one = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "none")
    done = named.gpu_dev(*one, "-n", "olymp")
    assert done.code == 2
    assert f"olymp is a host of yours ({place})" in done.err
    assert "-n olymp-" in done.err or "-n box-olymp" in done.err
    assert "--yes" in done.err
    if "Match" not in own:
        return
    told = named.ok(*one, "-n", "olymp", "--yes", "--wait")
    try:
        name = f"olymp.{named.json('config', 'show')['context']}"
        assert f"ssh {name}   or   gpu-dev connect olymp" in told
        assert named.run("ssh", "-G", "olymp").out == before
        assert named.run("ssh", name, "hostname").out == "olymp\n"
        assert named.in_box("olymp", "hostname").out == "olymp\n"
    finally:
        named.ok("cancel", "olymp", "--yes")
        named.gpu_dev("wait", "olymp")
    told = named.ok(*one[:-1], "olymp", "--no-wait")
    named.ok("cancel", "olymp-2", "--yes")
    named.gpu_dev("wait", "olymp-2")


def test_a_match_exec_that_hangs_holds_no_command_up_and_changes_no_names(named: Person) -> None:
    named.run("bash", "-c", "printf 'Host olymp\\n  User me\\nMatch exec \"sleep 777\"\\n  User x\\n' >> .ssh/config")
    named.ok("list", timeout=60)
    hosts = named.run("bash", "-c", "cat .gpu-dev/*-sshconfig | grep ^Host").out
    assert hosts.startswith("Host settings settings.")
    done = named.gpu_dev("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "none", "-n", "olymp", timeout=60)
    assert "olymp is a host of yours (~/.ssh/config:2)" in done.err
    assert named.run("pgrep", "-u", named.name, "-f", "sleep 777").out == ""
