"""A user's SSH configuration is never damaged, and disabling takes away exactly what enabling put there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from odc.cli import ssh_include

OURS = f"{ssh_include.LINE}\n".encode()


@pytest.mark.parametrize(
    "before",
    [b"", b"Host *\n  Port 2222", b"Host *\r\n  Port 2222\r\n", b"# caf\xe9\nMatch all\n", b"Host x\n  " + OURS],
)
def test_disabling_undoes_enabling_byte_for_byte(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(before)
    path.chmod(0o640)
    assert ssh_include.enable(path)
    assert path.read_bytes() == OURS + before
    assert ssh_include.disable(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o640


HOSTS = "Host train\n  Port 30001\n"


@pytest.mark.parametrize(
    "before", [b"", b"Port 2222\nHost x\n  Port 1", b"# caf\xe9\r\nHost *\r\n", b"Match all\n  " + OURS]
)
def test_a_managed_block_changes_nothing_else_and_goes_without_a_trace(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(before)
    assert ssh_include.enable(path, block=True)
    assert not ssh_include.enable(path, block=True)
    for hosts in (HOSTS, HOSTS.replace("train", "other"), ""):
        ssh_include.refresh(path, hosts)
        told = path.read_bytes()
        assert told.startswith(ssh_include.BEGIN.encode())
        assert told.endswith(ssh_include.END.encode() + b"\n" + before)
        assert hosts.encode() in told
        assert ssh_include.is_included(path)
    assert ssh_include.disable(path)
    assert path.read_bytes() == before


def test_the_line_and_the_block_take_each_others_place(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"Host *\n")
    ssh_include.enable(path)
    assert ssh_include.enable(path, block=True)
    ssh_include.refresh(path, HOSTS)
    assert ssh_include.LINE not in path.read_text()
    assert ssh_include.enable(path)
    assert path.read_bytes() == OURS + b"Host *\n"


def test_a_file_without_a_block_is_never_filled(tmp_path: Path) -> None:
    path = tmp_path / "config"
    ssh_include.refresh(path, HOSTS)
    assert not path.exists()
    path.write_bytes(OURS)
    ssh_include.refresh(path, HOSTS)
    assert path.read_bytes() == OURS


def test_what_the_user_says_for_every_host_holds_beside_the_block(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("User everywhere\nHost other\n  Port 7\n")
    ssh_include.enable(path, block=True)
    ssh_include.refresh(path, HOSTS)

    def told(host: str) -> list[str]:
        done = subprocess.run(["ssh", "-F", path, "-G", host], capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if line.startswith(("user ", "port "))]

    assert told("train") == ["user everywhere", "port 30001"]
    assert told("other") == ["user everywhere", "port 7"]
    assert told("third") == ["user everywhere", "port 22"]


def test_a_line_of_the_users_own_stays(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"# mine\n" + OURS + b"Host *\n")
    assert not ssh_include.enable(path)
    assert not ssh_include.disable(path)
    assert path.read_bytes() == b"# mine\n" + OURS + b"Host *\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles", tmp_path / "config"
    real.write_text("Host *\n")
    link.symlink_to(real)
    ssh_include.enable(link)
    assert link.is_symlink()
    assert real.read_bytes() == OURS + b"Host *\n"
