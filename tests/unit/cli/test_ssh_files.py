"""What `ssh` itself makes of the files that `gpu-dev` writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.unit.cli.screen import ID, a_view

from odc.cli import ssh_files

HERE = "unix:///run/odc/odc.sock"
LATER = 1e11
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID box"


@pytest.mark.parametrize("home", ["plain", "with space", "50%"])
def test_ssh_reads_the_box_from_the_file(tmp_path: Path, home: str) -> None:
    folder = tmp_path / home
    ssh_files.sync(folder, (a_view(host_key=KEY),), HERE, LATER)
    config = ssh_files.config_path(folder, ID)
    shown = subprocess.run(["ssh", "-F", config, "-G", "train"], capture_output=True, text=True, check=True).stdout
    facts = dict(line.split(" ", 1) for line in shown.splitlines())
    assert (facts["hostname"], facts["port"], facts["user"]) == ("10.0.0.5", "30122", "dev")
    assert facts["hostkeyalias"] == ID
    assert facts["stricthostkeychecking"] in ("yes", "true")
    assert str(folder) in facts["userknownhostsfile"].replace("%%", "%")


def test_files_of_what_is_over_are_taken_away(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), HERE, LATER)
    (tmp_path / "config.toml").write_text("")
    ssh_files.sync(tmp_path, (), HERE, LATER)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_files_of_another_cloud_stay(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), HERE, LATER)
    ssh_files.sync(tmp_path, (), "unix:///elsewhere.sock", LATER)
    assert ssh_files.find_offline(tmp_path, "/run/odc/odc.sock", "train") == ssh_files.config_path(tmp_path, ID)
    assert ssh_files.find_offline(tmp_path, "unix:///elsewhere.sock", "train") is None
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_but_a_comment_is_made_of_an_endpoint(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), "/x\nProxyCommand evil", LATER)
    assert "evil" not in ssh_files.config_path(tmp_path, ID).read_text()


def test_a_file_that_was_written_since_the_cloud_was_asked_stays(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), HERE, LATER)
    ssh_files.sync(tmp_path, (), HERE, asked_at=1.0)
    assert len(list(tmp_path.iterdir())) == 2
