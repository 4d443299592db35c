"""`gpu-dev connect` when something is wrong: keys, the user's own settings, a box that is silent or gone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.terminal import CTRL_C, terminal
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def container(cloud: Cloud, person: Person, name: str) -> str:
    """The engine's id of a reservation's box."""
    wanted = person.view(name)["id"]
    return next(str(box["Id"]) for box in cloud.boxes() if wanted in box["Names"][0])


def podman(*words: str) -> None:
    subprocess.run(["podman", *words], check=True, capture_output=True)


@pytest.fixture
def box(ada: Person) -> Iterator[Person]:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "train", "--disk", "none", "--wait")
    yield ada
    ada.run("rm", "-rf", ".ssh/config", ".ssh/other", ".ssh/other.pub")


@pytest.fixture
def without_key(box: Person) -> Iterator[Person]:
    box.run("mv", ".ssh/id_ed25519", ".ssh/aside")
    yield box
    box.run("mv", ".ssh/aside", ".ssh/id_ed25519")


def test_a_refused_key_is_explained(without_key: Person) -> None:
    me = without_key.json("config", "show")
    other = "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/other && ssh-add -q ~/.ssh/other && ssh-add -l"
    done = without_key.run("ssh-agent", "bash", "-c", f"{other} && gpu-dev connect train -- true")
    assert done.code == 255
    held = done.out.split()[1]
    assert "error: the box accepts none of your keys" in done.err
    assert f"the box accepts   {me['keys'][0]['fingerprint']}" in done.err
    assert f"your agent has    {held}" in done.err
    assert "gpu-dev config set ssh_key ~/.ssh/other.pub" in done.err
    assert held in without_key.run("gpu-dev", "connect", "train", "--diagnose").out


def test_a_key_that_lies_elsewhere_opens_the_box_by_every_way(box: Person) -> None:
    box.ok("config", "ssh-include", "enable")
    box.run("mkdir", "my keys")
    box.run("bash", "-c", "mv .ssh/id_ed25519 'my keys/work'; mv .ssh/id_ed25519.pub 'my keys/work.pub'")
    try:
        assert "ssh is refused" in box.ok("connect", "train", "--diagnose")
        assert box.run("ssh", "-o", "BatchMode=yes", "train", "true").code == 255
        box.ok("config", "set", "ssh_key", "my keys/work.pub")
        assert box.run("ssh", "-o", "BatchMode=yes", "train", "echo in").out == "in\n"
        assert box.in_box("train", "echo in").out == "in\n"
        assert "ssh gets in. Next: gpu-dev connect train" in box.ok("connect", "train", "--diagnose")
    finally:
        box.run("bash", "-c", "mv 'my keys/work' .ssh/id_ed25519; mv 'my keys/work.pub' .ssh/id_ed25519.pub")
        box.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
        box.ok("config", "ssh-include", "disable")


def test_ones_own_ssh_settings_hold_but_never_hide_the_box(without_key: Person) -> None:
    settings = "Host *\\n IdentityFile ~/.ssh/aside\\n Port 9\\n User nobody\\n RemoteCommand tmux\\n"
    settings += " ProxyJump nowhere.example\\n ProxyCommand false\\n"
    without_key.run("bash", "-c", f"printf '{settings}' > ~/.ssh/config")
    assert without_key.in_box("train", "whoami").out == "dev\n"


def test_broken_ssh_settings_lock_nobody_out(box: Person) -> None:
    box.run("bash", "-c", "printf 'Nonsense yes\\n' > ~/.ssh/config")
    done = box.in_box("train", "echo in")
    assert done.out == "in\n"
    assert "Bad configuration option: nonsense" in done.err
    assert "Connecting without them." in done.err


def test_a_held_but_silent_port_is_waited_for_with_words(box: Person, cloud: Cloud) -> None:
    held = container(cloud, box, "train")
    podman("pause", held)
    try:
        with terminal(box, "gpu-dev", "connect", "train", "--", "echo", "in") as screen:
            screen.expect("does not answer ssh; waiting for it")
            podman("unpause", held)
            screen.expect("in")
            assert screen.ended() == 0
        podman("pause", held)
        with terminal(box, "gpu-dev", "connect", "train") as screen:
            screen.answer("does not answer ssh; waiting for it", CTRL_C)
            screen.expect("train goes on. Come back: gpu-dev connect train")
            assert screen.ended() == 130
    finally:
        podman("unpause", held)


def test_a_box_that_is_gone_ends_the_wait_with_the_reason(box: Person, cloud: Cloud) -> None:
    held = container(cloud, box, "train")
    subprocess.run(["podman", "rm", "-f", "-t", "0", held], capture_output=True)
    eventually("the box is gone", lambda: held not in [str(box["Id"]) for box in cloud.boxes()])
    done = box.in_box("train", "true")
    assert done.code == 1
    assert "train failed" in done.err
    assert "removed by someone other than ODC" in done.err
    assert "gpu-dev reserve --like train" in done.err
