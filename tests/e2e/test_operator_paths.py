"""Where a cloud may lie, and what a start that fails leaves: nothing."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, add_person, destroy, make_cloud
from tests.e2e.operated import left_of

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

MISREAD = [" ", "%", "%20", "'", '"', "\\\\", "\\n", ":", ",", ";", "#", "?", "*", "$x", "(", "&"]


@pytest.mark.parametrize("name", ["state", "disks", "socket"])
@pytest.mark.parametrize("odd", MISREAD)
def test_paths_that_some_program_would_misread_are_refused_by_name(tmp_path: Path, name: str, odd: str) -> None:
    config = tmp_path / "odc.toml"
    values = {"cloud": "never", "state": f"{tmp_path}/state", "socket": f"{tmp_path}/odc.sock"}
    values[name] = f"{tmp_path}/a{odd}b"
    quoted = {key: value if odd.startswith("\\") else value.replace('"', '\\"') for key, value in values.items()}
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in quoted.items()))
    command = [sys.executable, "-m", "odc.entrypoints.odc", "--config", str(config), "up"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} = " in done.stderr
    assert "is not allowed" in done.stderr
    assert list(tmp_path.iterdir()) == [config]


def _two_taken(taken: ExitStack) -> tuple[int, int]:
    """Two neighbouring ports, with a listener on each."""
    while True:
        with ExitStack() as attempt:
            first = attempt.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            second = attempt.enter_context(socket.socket())
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            first.listen()
            second.listen()
            taken.enter_context(attempt.pop_all())
            return port, port + 1


@pytest.fixture
def failing(bin_folder: Path) -> Iterator[Cloud]:
    """A cloud whose only ports are taken, which its daemon finds out when everything else is there."""
    with ExitStack() as taken:
        ports = _two_taken(taken)
        made = make_cloud(bin_folder, name="fails", number=3, ports=list(ports))
        try:
            yield made
        finally:
            destroy(made)


def test_a_start_that_fails_leaves_nothing_on_the_machine(failing: Cloud) -> None:
    done = failing.odc("up", check=False)
    assert done.code != 0
    assert "are all taken" in done.err
    assert left_of(failing) == []


def test_a_cloud_works_in_a_folder_behind_a_link_with_letters_of_other_languages(bin_folder: Path) -> None:
    made = make_cloud(bin_folder, name="link", number=3)
    try:
        real = made.folder / "äöü-данные"
        real.mkdir(mode=0o700)
        made.state.symlink_to(real)
        made.odc("up")
        person = add_person(made, "p")
        person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
        person.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "far", "--disk", "data", "--wait", "--yes")
        assert person.in_box("far", "echo there > file && cat file").out == "there\n"
        made.odc("down", "--all", "--yes")
        assert left_of(made) == []
    finally:
        destroy(made)
