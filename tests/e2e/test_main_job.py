"""Reserve, connect, work, end: what people do, with the installed commands, real Podman and real OpenSSH."""

from __future__ import annotations

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs, pytest.mark.deployments]


def test_a_file_survives_its_box(ada: Person, cloud: Cloud) -> None:
    ada.ok("reserve", "-t", "h100", "-g", "2", "-h", "1.5", "-n", "train", "--disk", "proj", "--wait")
    view = ada.view("train")
    assert (view["state"], view["gpus"], view["disk"]) == ("active", 2, "proj")
    smi = ada.in_box("train", "nvidia-smi -L").out
    assert smi.count("GPU ") == 2
    assert "SIMULATED" in smi
    assert ada.in_box("train", "echo it survived > notes.txt; touch -d 2001-02-03 old; ln -s notes.txt link").code == 0
    ada.ok("cancel", "train", "--yes")
    ended = ada.until("train", "cancelled")
    assert ended["snapshot"]["verified"]
    eventually("the box is gone", lambda: not cloud.boxes())
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "proj", "--wait")
    assert ada.in_box("proj", "cat link").out == "it survived\n"
    assert ada.in_box("proj", "stat -c '%U %G %y' old").out.startswith("dev dev 2001-02-03")


def test_python_and_pip_work_at_the_first_try_and_land_on_the_disk(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "py", "--disk", "pydisk", "--wait")
    make = (
        'mkdir -p pkg && cd pkg && printf \'from setuptools import setup\\nsetup(name="tiny", version="1", '
        'py_modules=["tiny"])\\n\' > setup.py && echo x=41 > tiny.py && '
        "pip install --no-build-isolation --no-index . >/dev/null && cd / && "
        "python -c 'import tiny; print(tiny.x + 1, tiny.__file__)'"
    )
    done = ada.in_box("py", make)
    assert done.out.startswith("42 /home/dev/.venv/"), done
    assert ada.in_box("py", "sudo -n id -u").out == "0\n"
    theme = ada.in_box("py", "grep -c -x -e 'ZSH_THEME=\"robbyrussell\"' -e 'plugins=(git)' .zshrc").out
    assert theme == "2\n"
    ada.ok("cancel", "py", "--yes")
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "again", "--disk", "pydisk", "--wait")
    assert ada.in_box("again", "cd / && python -c 'import tiny; print(tiny.x + 1)'").out == "42\n"


def test_an_ended_reservation_still_answers(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "gone", "--disk", "kept", "--wait")
    ada.ok("cancel", "gone", "--yes")
    ada.until("gone", "cancelled")
    told = ada.ok("show", "gone")
    assert "cancelled" in told
    assert "kept" in told
    assert "verified" in told
    assert "gpu-dev reserve --like gone" in told


def test_reserving_the_same_disk_at_once_waits_for_ones_own_snapshot(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "one", "--disk", "same", "--wait")
    ada.in_box("one", "echo last second > file")
    ada.ok("cancel", "one", "--yes")
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "two", "--disk", "same", "--wait")
    assert ada.in_box("two", "cat file").out == "last second\n"
