"""Homes, accounts and folders that ssh cannot use: the command that repairs them is named."""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.lane import LANE

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def test_connect_works_with_a_read_only_home_and_promises_no_names(box: Person) -> None:
    box.ok("config", "ssh-include", "enable")
    box.run("bash", "-c", "mv .gpu-dev aside && mkdir -m 500 .gpu-dev")
    try:
        done = box.in_box("settings", "echo in")
        assert done.out == "in\n", done
        assert "ssh does not know your boxes by name here" in done.err
        shown = box.ok("show", "settings")
        assert "ssh settings " not in shown
        assert "vscode://" not in shown
    finally:
        box.run("bash", "-c", "rmdir .gpu-dev; mv aside .gpu-dev; rm .ssh/config")


def test_a_home_that_is_not_the_accounts_promises_no_names(box: Person) -> None:
    box.run("mkdir", "-p", "elsewhere/.ssh")
    home = str(box.home / "elsewhere")
    try:
        done = box.gpu_dev("config", "ssh-include", "enable", HOME=home)
        assert done.out.splitlines()[-1] == "Next: gpu-dev connect settings"
        assert f"{box.home}/.ssh/config" in done.err
        assert f"Include {home}/.gpu-dev/*-sshconfig" in done.err
        assert "ssh settings " not in box.ok("show", "settings", HOME=home)
        assert box.in_box("settings", "echo in", HOME=home).out == "in\n"
        box.run("bash", "-c", f"echo 'Include {home}/.gpu-dev/*-sshconfig' > .ssh/config")
        assert "ssh settings " in box.ok("show", "settings", HOME=home)
        assert box.run("ssh", "settings", "echo in", HOME=home).out == "in\n"
    finally:
        box.run("rm", "-rf", "elsewhere", ".ssh/config")


def test_a_uid_without_an_account_is_told_what_to_do(cloud: Cloud, box: Person) -> None:
    uid = 54000 + LANE
    home = cloud.folder / "nobody"
    home.mkdir(exist_ok=True)
    os.chown(home, uid, uid)
    environment = {"HOME": str(home), "PATH": f"{box.bin}:/usr/bin:/bin", "GPU_DEV_ENDPOINT": f"unix://{cloud.socket}"}

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=environment, cwd=home, user=uid, group=uid, extra_groups=[], capture_output=True, text=True
        )

    key = (box.home / ".ssh/id_ed25519.pub").read_text()
    (home / "key.pub").write_text(key)
    assert typed("gpu-dev", "config", "set", "ssh_key", "key.pub").returncode == 0
    one = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "nobodys", "--disk", "none", "--wait")
    assert typed("gpu-dev", *one).returncode == 0
    try:
        done = typed("gpu-dev", "connect", "nobodys", "--", "true")
        assert done.returncode == 2
        assert f"ssh: No user exists for uid {uid}" in done.stderr
        assert "/etc/passwd" in done.stderr
        assert "restarting" not in done.stderr
    finally:
        typed("gpu-dev", "cancel", "nobodys", "--yes")
        typed("gpu-dev", "wait", "nobodys")


@pytest.mark.parametrize(("path", "mode"), [(".ssh", "700"), (".ssh/config", "600")])
def test_an_unreadable_ssh_folder_or_file_is_named_with_the_command_that_repairs_it(
    named: Person, path: str, mode: str
) -> None:
    blocked, repair = f"{named.home}/{path}", f"chmod {mode} {named.home}/{path}"
    note = f"ssh cannot read {blocked}, so it does not know your boxes by name. Repair it: {repair}\n"
    named.run("chmod", "000", path)
    try:
        listed = named.gpu_dev("list")
        assert (listed.code, listed.err) == (0, note)
        assert f"  names     {repair}\n" in named.ok("show", "settings")
        shown = named.ok("config", "show")
        assert f"ssh           {named.home}/.ssh/config cannot be read\nNext: {repair}\n" in shown
        enabled = named.gpu_dev("config", "ssh-include", "enable")
        assert (enabled.code, enabled.err.splitlines()[1]) == (2, f"  repair it   {repair}")
        done = named.in_box("settings", "echo in")
        assert done.err.startswith(note), done
        assert done.out == ("" if path == ".ssh" else "in\n")
        assert (f"  ssh cannot read your keys. Repair it: {repair}\n" in done.err) is (path == ".ssh")
        assert "ssh-keygen" not in done.err
        told = named.gpu_dev("connect", "settings", "--diagnose")
        assert (told.code, told.err) == (0, note)
    finally:
        named.run("bash", "-c", repair)
    assert named.gpu_dev("list").err == ""
    assert named.run("ssh", "settings", "echo in").out == "in\n"
