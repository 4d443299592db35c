"""Paths that cannot be what a setting or an option needs: refused with its name, and nothing is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.cloud import Done
from tests.someone import SOURCE

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root operates a cloud")
ODC = (sys.executable, "-m", "odc.entrypoints.odc")


def run(folder: Path, script: str, *arguments: str) -> Done:
    """Run a shell script with `odc` as its arguments, in a folder."""
    env = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    words = ["sh", "-c", script, "sh", *ODC, *arguments]
    done = subprocess.run(words, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [("--config", "o.toml", "doctor"), ("--config", "o.toml", "up"), ("up", "--disks", "disks"), ("backup", "new.db")],
)
def test_a_relative_path_in_a_folder_that_is_gone_is_refused_as_such(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "gone").mkdir()
    done = run(tmp_path / "gone", 'rmdir "$PWD" && exec "$@"', *arguments)
    assert (done.code, done.out) == (1, "")
    assert "error: the current folder does not exist any more, and a path was given relative to it" in done.err
    assert "cd /" in done.err


@pytest.mark.parametrize("command", ["up", "doctor"])
@pytest.mark.parametrize("name", ["state", "disks", "socket"])
@pytest.mark.parametrize("below", ["", "/below"])
def test_a_file_in_place_of_a_folder_is_refused_by_the_settings_name(
    short_folder: Path, command: str, name: str, below: str
) -> None:
    file, config = short_folder / "file", short_folder / "odc.toml"
    file.write_text("precious\n")
    values = {"cloud": "never", "state": f"{short_folder}/state", "socket": f"{short_folder}/odc.sock"}
    values[name] = f"{file}{below}{'/odc.sock' if name == 'socket' else ''}"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    done = run(short_folder, 'exec "$@"', "--config", str(config), command)
    assert done.code == 2
    assert f'{name} = "{values[name]}" cannot be used: {file} is not a folder' in done.err
    assert file.read_text() == "precious\n"
    assert sorted(short_folder.iterdir()) == [file, config]


def test_a_link_that_leads_nowhere_is_refused_by_the_settings_name(short_folder: Path) -> None:
    (short_folder / "state").symlink_to(short_folder / "unmounted")
    config = short_folder / "odc.toml"
    config.write_text(f'cloud = "never"\nstate = "{short_folder}/state"\nsocket = "{short_folder}/odc.sock"\n')
    done = run(short_folder, 'exec "$@"', "--config", str(config), "up")
    assert done.code == 2
    assert (
        f'state = "{short_folder}/state" cannot be used: {short_folder}/state is a link that leads nowhere' in done.err
    )
