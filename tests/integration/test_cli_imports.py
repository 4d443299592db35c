"""Short commands are quick because they load little: nothing of the server, and nothing that draws."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person
from tests.small_cloud import small_cloud
from tests.someone import SOURCE, someone

IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", re.MULTILINE)
HEAVY = {"asyncio", "litestar", "podman", "prompt_toolkit", "questionary", "requests", "rich", "sqlalchemy", "uvicorn"}
SHORT = ("--help", "--version", "list", "list --json", "avail", "status", "show one", "config show")


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """With one reservation."""
    folder = tmp_path_factory.mktemp("imports")
    with small_cloud(folder) as cloud:
        person = someone(cloud, folder)
        person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
        person.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "one", "--disk", "none", "--wait")
        yield person


@pytest.mark.parametrize("command", SHORT)
def test_a_short_command_loads_nothing_heavy(ada: Person, command: str) -> None:
    done = ada.gpu_dev(*command.split(), PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    loaded = {name.partition(".")[0] for name in IMPORTED.findall(done.err)}
    assert "click" in loaded
    assert not loaded & HEAVY


def test_a_command_of_the_operator_loads_nothing_that_only_the_daemon_needs(ada: Person, tmp_path: Path) -> None:
    settings = tmp_path / "odc.toml"
    settings.write_text(f'cloud = "imports"\nstate = "{tmp_path}/state"\nsocket = "{tmp_path}/odc.sock"\n')
    odc = (sys.executable, "-m", "odc.entrypoints.odc", "--config", str(settings))
    done = ada.run(*odc, "doctor", PYTHONPATH=str(SOURCE), PYTHONPROFILEIMPORTTIME="1")
    assert "there is no ODC daemon" in done.out
    loaded = set(IMPORTED.findall(done.err))
    assert "odc.entrypoints.bootstrap.local" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"litestar", "sqlalchemy", "uvicorn"}


@pytest.mark.parametrize("program", ["gpu_dev", "odc"])
def test_an_interrupt_during_the_imports_ends_silently(tmp_path: Path, program: str) -> None:
    # Stands for a module that is being imported at the moment of Ctrl+C.
    (tmp_path / "click.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    command = [sys.executable, "-m", f"odc.entrypoints.{program}", "--version"]
    done = subprocess.run(command, env={"PYTHONPATH": f"{tmp_path}:{SOURCE}"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
