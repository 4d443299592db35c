"""What the operator is asked before something cannot be undone: `odc` on a real terminal, and without one."""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person
from tests.e2e.terminal import ENTER, terminal
from tests.lane import lane_name
from tests.someone import SOURCE

ODC = (sys.executable, "-m", "odc.entrypoints.odc")
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root operates a cloud")


@pytest.fixture
def config(short_folder: Path) -> Path:
    """The settings of a cloud that has a state folder and nothing in it."""
    (short_folder / "state").mkdir()
    values = {
        "cloud": lane_name("confirm"),
        "state": str(short_folder / "state"),
        "socket": str(short_folder / "odc.sock"),
        "image": f"localhost/odc/{lane_name('confirm')}:1",
    }
    file = short_folder / "odc.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return file


@pytest.fixture
def root(tmp_path: Path) -> Person:
    return Person(name=getpass.getuser(), home=tmp_path, bin=tmp_path, socket=tmp_path / "odc.sock")


@pytest.fixture
def own_image(tmp_path: Path) -> Iterator[str]:
    """An image by the name that the settings give, which ODC did not make."""
    name = f"localhost/odc/{lane_name('confirm')}:1"
    with tarfile.open(tmp_path / "own.tar", "w") as tar:
        tar.add(__file__, "own")
    subprocess.run(["podman", "import", "-q", tmp_path / "own.tar", name], check=True, capture_output=True)
    yield name
    subprocess.run(["podman", "image", "rm", "-f", name], check=True, capture_output=True)


def test_commands_that_are_shown_name_the_settings_file_of_the_environment(config: Path) -> None:
    environment = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "ODC_CONFIG": config.name}
    told = {
        command: subprocess.run(
            [*ODC, *command.split()], env=environment, cwd=config.parent, capture_output=True, text=True
        )
        for command in ("doctor", "down --all", "--config other.toml down")
    }
    assert f"run: sudo odc --config {config} up\n" in told["doctor"].stdout
    assert f" --config {config} down --all --yes\n" in told["down --all"].stderr
    assert "other.toml" in told["--config other.toml down"].stderr  # what is typed wins


@pytest.mark.parametrize("keys", [ENTER, "n" + ENTER, "q" + ENTER + ENTER], ids=["enter", "n", "q"])
def test_enter_and_no_end_nothing_and_only_yes_goes_on(root: Person, config: Path, keys: str) -> None:
    with terminal(root, *ODC, "--config", str(config), "down", "--all", PYTHONPATH=str(SOURCE)) as screen:
        screen.answer("This ends every reservation of every user. Go on? [y/N]", keys)
        assert screen.ended() == 130
    assert "Everything is down" not in screen.screen.text


@pytest.mark.podman
def test_an_image_that_odc_did_not_make_is_replaced_only_by_consent(config: Path, own_image: str) -> None:
    command = [*ODC, "--config", str(config), "image", "build"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {own_image} was not made by ODC; this replaces it; confirm it with --yes\n" in done.stderr
    assert "image build --yes\n" in done.stderr
    assert subprocess.run(["podman", "image", "exists", own_image]).returncode == 0


def test_commands_that_are_shown_reach_the_cloud_of_the_settings(config: Path) -> None:
    for typed in (("--config", str(config)), (f"--config={config}",)):
        done = subprocess.run([*ODC, *typed, "disk", "recover"], capture_output=True, text=True)
        assert done.returncode == 2
        assert f"   gpu-dev --endpoint unix://{config.parent}/odc.sock status\n" in done.stderr
    config.write_text("no TOML")
    done = subprocess.run([*ODC, "--config", str(config), "disk", "recover"], capture_output=True, text=True)
    assert "   gpu-dev status\n" in done.stderr


@pytest.mark.parametrize("command", ["--help", "--version", "doctor", "doctor --json", "completion bash", "down"])
@pytest.mark.parametrize(("target", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_an_answer_that_cannot_be_written_is_an_error(
    root: Person, config: Path, command: str, target: str, why: str
) -> None:
    done = root.run("bash", "-c", f"{' '.join(ODC)} --config {config} {command} {target}", PYTHONPATH=str(SOURCE))
    assert done.code == 1
    assert re.fullmatch(rf"error: (done, but )?standard output cannot be written: {why}\n", done.err), done


def test_a_prune_that_would_keep_nothing_is_refused_with_the_reason(root: Person, config: Path) -> None:
    done = root.run(*ODC, "--config", str(config), "disk", "prune", "--keep", "0", PYTHONPATH=str(SOURCE))
    assert done.code == 2
    assert done.err.startswith("error: --keep must be at least 1, not 0: the newest verified snapshot of each disk is ")


def test_a_reader_that_has_seen_enough_does_not_end_a_command(root: Person, config: Path) -> None:
    done = root.run(
        "bash", "-c", f"{' '.join(ODC)} --config {config} down | true; exit ${{PIPESTATUS[0]}}", PYTHONPATH=str(SOURCE)
    )
    assert (done.code, done.err) == (0, "")


def test_the_log_of_a_daemon_that_cannot_start_has_its_hints_as_data(root: Person, config: Path) -> None:
    state = config.parent / "state"
    state.chmod(0o755)
    done = root.run(*ODC, "--config", str(config), "serve", PYTHONPATH=str(SOURCE))
    entries = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert [hint["command"] for hint in entries[-1]["hints"]] == [
        f"sudo chmod 700 {state}",
        'state = "/…" in the settings',
    ]
