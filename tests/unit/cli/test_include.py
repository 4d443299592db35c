"""A user's SSH configuration is never damaged, and disabling takes away exactly what enabling put there."""

from __future__ import annotations

from pathlib import Path

import pytest

from odc.cli import include

OURS = f"{include.LINE}\n".encode()


@pytest.mark.parametrize(
    "before",
    [b"", b"Host *\n  Port 2222", b"Host *\r\n  Port 2222\r\n", b"# caf\xe9\nMatch all\n", b"Host x\n  " + OURS],
)
def test_disabling_undoes_enabling_byte_for_byte(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(before)
    path.chmod(0o640)
    assert include.enable(path)
    assert path.read_bytes() == OURS + before
    assert include.disable(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_line_of_the_users_own_stays(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"# mine\n" + OURS + b"Host *\n")
    assert not include.enable(path)
    assert not include.disable(path)
    assert path.read_bytes() == b"# mine\n" + OURS + b"Host *\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles", tmp_path / "config"
    real.write_text("Host *\n")
    link.symlink_to(real)
    include.enable(link)
    assert link.is_symlink()
    assert real.read_bytes() == OURS + b"Host *\n"
