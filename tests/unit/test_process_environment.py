"""What ODC takes over from the environment of whoever typed its command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from odc.entrypoints.process_environment import FOLDERS, cleaned

ORDINARY = {"HOME": "/root", "LANG": "C.UTF-8", "TERM": "xterm", "https_proxy": "http://proxy:3128"}


def test_an_ordinary_environment_stays_as_it_is() -> None:
    path = os.pathsep.join(FOLDERS)
    assert cleaned({**ORDINARY, "PATH": path}) == ({**ORDINARY, "PATH": path}, [])


@pytest.mark.parametrize(
    "name", ["CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST", "STORAGE_OPTS"]
)
def test_what_leads_the_engine_elsewhere_is_left_out_and_named(name: str) -> None:
    kept, told = cleaned({**ORDINARY, name: "elsewhere"})
    assert name not in kept
    assert told == [name]


@pytest.mark.parametrize("value", ["", "relative", "/nonexistent/folder", "/etc/passwd"])
def test_a_folder_for_temporary_files_must_be_there(value: str) -> None:
    kept, told = cleaned({**ORDINARY, "TMPDIR": value})
    assert "TMPDIR" not in kept
    assert told == [f"TMPDIR ({value!r} is not a folder that can be written)"]
    assert cleaned({"TMPDIR": "/tmp"})[0]["TMPDIR"] == "/tmp"  # a value


@pytest.mark.parametrize("path", ["", ".", "relative:/bin", "/usr/bin:/bin", ".:/opt/bin"])
def test_programs_of_root_are_found_and_relative_folders_are_not_searched(path: str) -> None:
    folders = cleaned({"PATH": path})[0]["PATH"].split(os.pathsep)
    assert set(FOLDERS) <= set(folders)
    assert all(folder.startswith("/") for folder in folders)
    assert len(folders) == len(set(folders))


def test_variables_of_python_do_not_reach_the_daemon_unless_odc_is_found_by_them() -> None:
    own = str(Path(__file__).parents[2] / "src")
    foreign = {"PYTHONWARNINGS": "error", "PYTHONHOME": "/x", "PYTHONPATH": "/x", "PYTHONSTARTUP": "/x"}
    kept, told = cleaned({**ORDINARY, **foreign})
    assert not [name for name in kept if name.startswith("PYTHON")]
    assert told == ["PYTHONHOME", "PYTHONPATH"]
    assert cleaned({"PYTHONPATH": own})[0]["PYTHONPATH"] == own


@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "nowhere"}])
def test_the_home_of_the_account_replaces_one_that_is_not_a_path(home: dict[str, str]) -> None:
    assert Path(cleaned(home)[0]["HOME"]).is_absolute()
