"""What a box promises, by the installed commands: its share, its GPUs, its logins, and a home that stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.e2e.cloud import Cloud, Person
from tests.e2e.terminal import ENTER, terminal
from tests.images import tiny_image

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

LOOK = """
echo $ODC_MEMORY_GIB; nproc; free -b | awk '/Mem:/ {print $2}'; df -B1 --output=size /dev/shm | tail -1
ls /dev | grep simgpu | sort; nvidia-smi -L | grep -o 'SIM-[^)]*'; nvidia-smi | head -1
"""
SHARE = "echo $(printenv ODC_CPUS ODC_MEMORY_GIB OMP_NUM_THREADS MAKEFLAGS)"
BARE = "env -i HOME=/home/dev PATH=/usr/bin:/bin"
IN_TMUX = f"""
tmux new-session -d
tmux send-keys 'echo ${{TMUX:+in tmux}} $({SHARE}) > said; tmux wait-for -S said' Enter
tmux wait-for said
cat said
"""
TREE = (Path(__file__).parent / "exact_tree.py").read_text()


def reserve(person: Person, name: str, *more: str, disk: str = "none", gpu_type: str = "t4", gpus: int = 1) -> Any:
    """A reservation whose box answers."""
    count = ("-g", str(gpus)) if gpus else ()
    person.ok("reserve", "-t", gpu_type, *count, "-h", "0.5", "-n", name, "--disk", disk, *more, "--wait")
    return person.view(name)


def end(person: Person, name: str) -> None:
    person.ok("cancel", name, "--yes")
    person.until(name, "cancelled")


@contextmanager
def changed_settings(cloud: Cloud, line: str) -> Iterator[None]:
    """The cloud as after its operator set a line of the settings; as it was before afterwards."""
    before = cloud.config.read_text()
    others = [old for old in before.splitlines() if old.split("=")[0] != line.split("=")[0]]
    cloud.config.write_text("\n".join([line, *others, ""]))
    try:
        for command in ("down", "up"):
            cloud.odc(command)
        yield
    finally:
        cloud.config.write_text(before)
        for command in ("down", "up"):
            cloud.odc(command)


def test_the_box_shows_its_own_share_and_only_its_own_gpus(ada: Person) -> None:
    sizes = {"one": ("h100", 1), "two": ("h100", 2), "four": ("h100", 4), "unit": ("cpu-x86", 0)}
    views = {name: reserve(ada, name, gpu_type=kind, gpus=gpus) for name, (kind, gpus) in sizes.items()}
    for name, view in views.items():
        check_box(ada, name, view, of_share=1.5)
    given = [gpu for view in views.values() for gpu in view["boxes"][0]["gpus"]]
    assert len(set(given)) == len(given) == 7
    ada.ok("cancel", "--all", "--yes")
    check_box(ada, "whole", reserve(ada, "whole", gpu_type="h100", gpus=8), of_share=1)


def check_box(person: Person, name: str, view: Any, of_share: float) -> None:
    """What the box shows of itself is what `show --json` says of it.

    Args:
        person: its owner.
        name: the reservation's.
        view: the reservation.
        of_share: its limit, in parts of its share; less than 1.5 where the node has no more.
    """
    (box,) = view["boxes"]
    memory_gib, cpus, memory, shm, *shown = person.in_box(name, LOOK).out.splitlines()
    assert (int(cpus), float(memory_gib)) == (box["cpus"], box["memory_gib"])
    assert box["memory_gib"] <= int(memory) / 2**30 < box["memory_gib"] + 0.1
    assert int(shm) == pytest.approx(int(memory) / of_share / 2, rel=0.001)
    assert len(box["gpus"]) == view["gpus"]
    heading = ["SIMULATED GPUs: no hardware stands behind them; CUDA programs cannot use them."]
    devices = [f"simgpu{index}" for index in box["gpu_indexes"]]
    assert shown == ([*devices, *box["gpus"], *heading] if view["gpus"] else [])


def test_every_login_knows_the_boxs_share(ada: Person) -> None:
    view = reserve(ada, "logins", gpu_type="h100")
    (box,) = view["boxes"]
    share = f"{box['cpus']} {box['memory_gib']} {box['cpus']} -j{box['cpus']}\n"
    for shell in ("zsh -c", "bash -lc", "sh -lc", "zsh -ic"):
        # Without what SSH gave to the login: what the shell reads by itself.
        assert ada.in_box("logins", f"{BARE} {shell} '{SHARE}'").out == share, shell
    assert ada.in_box("logins", SHARE).out == share
    assert ada.in_box("logins", IN_TMUX).out == f"in tmux {share}"
    with terminal(ada, "gpu-dev", "connect", "logins") as screen:
        screen.answer("➜", SHARE + ENTER)
        screen.expect(f"\n{share}")


def test_a_login_greets_in_the_operators_time_zone(ada: Person, cloud: Cloud) -> None:
    with changed_settings(cloud, 'timezone = "Asia/Kathmandu"'):
        view = reserve(ada, "greeted", gpu_type="h100", gpus=2)
        assert view["expires_at"].endswith("Z")
        ends = datetime.fromisoformat(view["expires_at"]).astimezone(ZoneInfo("Asia/Kathmandu"))
        with terminal(ada, "gpu-dev", "connect", "greeted") as screen:
            screen.expect("greeted   2 x h100 SIMULATED", f"{ends:%H:%M} +0545 (in ", "disk none")
            screen.answer("➜", "date +%z" + ENTER)
            screen.expect("\n+0545\n")


def test_what_a_user_set_up_is_there_in_the_next_box(ada: Person) -> None:
    reserve(ada, "first", disk="setup")
    edit = (
        "sed -i 's/robbyrussell/agnoster/; s/plugins=(git)/plugins=(git docker)/; $a echo zshrc\"\"-ran' .zshrc && "
        "rm .bashrc && echo '# mine' > .zprofile && rm -r .oh-my-zsh/plugins/python"
    )
    assert ada.in_box("first", edit).code == 0
    files = "md5sum .zshrc .zprofile; ls -A . .oh-my-zsh/plugins | grep -v -e '^.odc' -e '^.zcomp' -e '^.zsh_hist'"
    left = ada.in_box("first", files).out
    shell_of_agnoster_and_docker(ada, "first")
    end(ada, "first")
    reserve(ada, "second", disk="setup")
    assert ada.in_box("second", files).out == left
    shell_of_agnoster_and_docker(ada, "second")


def shell_of_agnoster_and_docker(person: Person, name: str) -> None:
    with terminal(person, "gpu-dev", "connect", name) as screen:
        screen.answer(f" dev@{name}  ~", "alias dps gst" + ENTER)
        screen.expect("zshrc-ran", "dps='docker ps'", "gst='git status'")


def test_a_disk_used_again_is_exactly_as_it_was_left(ada: Person) -> None:
    reserve(ada, "before", disk="exact")
    made = ada.in_box("before", "sudo python3 - make", input=TREE)
    assert made.code == 0, made
    end(ada, "before")
    reserve(ada, "after", disk="exact")
    found = ada.in_box("after", "sudo python3 - list", input=TREE).out
    assert found.splitlines() == made.out.splitlines()


def test_an_image_that_cannot_be_a_box_fails_soon_with_the_reason_and_keeps_the_disk(ada: Person, cloud: Cloud) -> None:
    reserve(ada, "good", disk="imaged")
    ada.in_box("good", "echo safe > file")
    end(ada, "good")
    with (
        tiny_image(f"localhost/{cloud.name}/no-sshd:1", "no sshd") as image,
        changed_settings(cloud, f'image = "{image}"'),
    ):
        done = ada.gpu_dev("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "bad", "--disk", "imaged", "--wait")
        assert done.code == 1
        assert "the image has no sshd; install openssh-server in it" in done.out + done.err
        failed = ada.until("bad", "failed")
        assert "the image has no sshd; install openssh-server in it" in failed["reason"]
        assert "imaged is as it was" in ada.ok("show", "bad")
        assert not cloud.boxes()
    reserve(ada, "repaired", disk="imaged")
    assert ada.in_box("repaired", "cat file").out == "safe\n"
