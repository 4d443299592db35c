"""Names of new reservations that ssh already knows: one home, two clouds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person
from tests.e2e.terminal import DOWN, ENTER, terminal
from tests.small_cloud import SmallCloud, small_cloud
from tests.someone import someone

T4 = ("reserve", "-t", "t4", "-g", "1", "-h", "1")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SmallCloud]:
    """A second cloud, in which the user has `train` and the usual `default`."""
    (tmp_path / "other").mkdir()
    with small_cloud(tmp_path / "other") as made:
        yield made


@pytest.fixture
def ada(tmp_path: Path, other: SmallCloud) -> Iterator[Person]:
    (tmp_path / "one").mkdir()
    with small_cloud(tmp_path / "one") as cloud:
        person = someone(cloud, tmp_path)
        there = {"GPU_DEV_ENDPOINT": other.endpoint}
        person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub", **there)
        person.ok(*T4, "-n", "train", "--disk", "none", "--wait", **there)
        person.ok(*T4, "--wait", **there)
        person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
        yield person


def test_a_name_of_another_cloud_is_refused_and_the_usual_name_gives_way(ada: Person, other: SmallCloud) -> None:
    done = ada.gpu_dev(*T4, "-n", "train", "--disk", "none")
    assert done.code == 2
    assert f"you have a reservation train in the cloud on {other.socket}" in done.err
    assert "gpu-dev reserve -t t4 -g 1 -h 1 -n train-2 --disk none" in done.err
    assert "gpu-dev reserve -t t4 -g 1 -h 1 -n train --disk none --yes" in done.err
    usual = ada.gpu_dev(*T4, "--wait")
    assert usual.code == 0
    assert "the reservation is named default-2." in usual.err
    assert ada.view("default-2")["disk"] == "default"


def test_a_name_of_another_cloud_is_asked_about_and_may_be_meant(ada: Person) -> None:
    for keys, name in ((ENTER, "train-2"), (DOWN + ENTER, "train")):
        with terminal(ada, "gpu-dev", *T4, "-n", "train", "--disk", "none", "--no-wait") as screen:
            screen.answer("Which name?", keys)
            screen.expect(f"{name} (")
            assert screen.ended() == 0
    done = ada.run("ssh", "-F", ".gpu-dev/0-same-names-sshconfig", "train", "true")
    assert done.code == 255
    assert "train is the name of 2 reservations in different clouds: ssh train." in done.err


def test_a_name_of_two_clouds_is_not_taken_for_a_fault_of_the_users_settings(ada: Person) -> None:
    ada.ok("config", "ssh-include", "enable")
    ada.ok(*T4, "-n", "train", "--disk", "none", "--yes", "--wait")
    assert (ada.home / ".gpu-dev/0-same-names-sshconfig").exists()
    shown = ada.json("config", "show")["ssh_files"][0]
    assert (shown["included"], shown["in_effect"]) == (True, True)
