"""What `ssh` itself makes of the files that `gpu-dev` writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.unit.cli.screen import ID, a_view

from odc.cli import ssh_files

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID box"


@pytest.mark.parametrize("home", ["plain", "with space", "50%"])
def test_ssh_reads_the_box_from_the_file(tmp_path: Path, home: str) -> None:
    folder = tmp_path / home
    ssh_files.sync(folder, (a_view(host_key=KEY),))
    config = ssh_files.config_path(folder, ID)
    shown = subprocess.run(["ssh", "-F", config, "-G", "train"], capture_output=True, text=True, check=True).stdout
    facts = dict(line.split(" ", 1) for line in shown.splitlines())
    assert (facts["hostname"], facts["port"], facts["user"]) == ("10.0.0.5", "30122", "dev")
    assert facts["hostkeyalias"] == ID
    assert facts["stricthostkeychecking"] in ("yes", "true")
    assert str(folder) in facts["userknownhostsfile"].replace("%%", "%")


def test_files_of_what_is_over_are_taken_away(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),))
    (tmp_path / "config.toml").write_text("")
    ssh_files.sync(tmp_path, ())
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]
