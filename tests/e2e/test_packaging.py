"""Every way in which the pages say that ODC is installed, each into a fresh place of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.e2e.cloud import Done
from tests.e2e.installed import BASE_PYTHON, REPOSITORY, build_wheel

from odc import __version__

VERSION = f"gpu-dev, version {__version__}\n"
CONSTRAINTS = ("-c", str(REPOSITORY / "requirements-dev.txt"))
LIGHT = {"click", "msgspec", "questionary", "prompt-toolkit"}
THEIRS = {"wcwidth"}
"""What those need."""
OF_THE_SERVER = ("up", "serve", "down", "down --all --yes", "doctor", "backup records.db", "image build")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for environments; they are too large to be left."""
    with TemporaryDirectory(prefix="odc-packaging-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def run(*command: str | Path, cwd: Path | None = None, **environment: Any) -> Done:
    """Run a command as it is run outside any environment."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept | {name: str(value) for name, value in environment.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def ok(*command: str | Path, **environment: Any) -> str:
    """Run a command, which must succeed; what it printed."""
    done = run(*command, **environment)
    assert done.code == 0, f"{command}: {done}"
    return done.out


def a_fresh_environment(folder: Path) -> Path:
    """The folder of its programs."""
    ok(BASE_PYTHON, "-m", "venv", folder / "fresh")
    return folder / "fresh/bin"


def test_a_plain_install_is_a_light_gpu_dev_and_says_what_brings_the_rest(wheel: Path, folder: Path) -> None:
    programs = a_fresh_environment(folder)
    ok(programs / "pip", "install", "-q", *CONSTRAINTS, wheel)
    listed = json.loads(ok(programs / "pip", "list", "--format", "json"))
    names = {entry["name"].lower().replace("_", "-") for entry in listed} - {"pip", "setuptools"}
    assert names == {"open-developer-cloud", *LIGHT, *THEIRS}
    assert ok(programs / "gpu-dev", "--version") == VERSION
    assert "Commands:" in ok(programs / "gpu-dev", "--help")
    assert "Commands:" in ok(programs / "odc", "--help")
    for command in OF_THE_SERVER if os.geteuid() == 0 else ():
        told = run(programs / "odc", *command.split(), cwd=folder, ODC_CONFIG=a_cloud(folder))
        assert (told.code, told.out) == (1, ""), command
        # `serve` logs its reason too.
        first, last = (line for line in told.err.splitlines() if not line.startswith("{"))
        assert first.startswith("error: this installation has only the part for developers, gpu-dev: "), command
        assert last.endswith("  pip install 'open-developer-cloud[server]'"), command


def a_cloud(folder: Path) -> Path:
    """Settings that touch nothing of this machine's."""
    settings = folder / "odc.toml"
    settings.write_text(f'cloud = "packaging"\nstate = "{folder}/state"\nsocket = "{folder}/odc.sock"\n')
    return settings


def test_pipx_installs_gpu_dev(wheel: Path, folder: Path) -> None:
    places = {"PIPX_HOME": folder / "pipx", "PIPX_BIN_DIR": folder / "bin", "PIPX_MAN_DIR": folder / "man"}
    pipx = (sys.executable, "-m", "pipx", "install", "--python", BASE_PYTHON, "--pip-args", " ".join(CONSTRAINTS))
    ok(*pipx, wheel, **places)
    assert {program.name for program in (folder / "bin").iterdir()} == {"gpu-dev", "odc"}
    assert ok(folder / "bin/gpu-dev", "--version") == VERSION
    lacking = run(folder / "bin/odc", "up")
    assert "  pipx install --force 'open-developer-cloud[server]'" in lacking.err


def test_an_editable_install_of_the_checkout_runs_its_source(folder: Path) -> None:
    programs = a_fresh_environment(folder)
    ok(programs / "pip", "install", "-q", *CONSTRAINTS, "-e", REPOSITORY)
    assert ok(programs / "gpu-dev", "--version") == VERSION
    where = ok(programs / "python", "-c", "import odc; print(odc.__file__)")
    assert where.strip() == str(REPOSITORY / "src/odc/__init__.py")
