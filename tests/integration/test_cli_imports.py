"""Short commands are quick because they load little: nothing of the server, and nothing that draws."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Person
from tests.small_cloud import small_cloud
from tests.someone import someone

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
