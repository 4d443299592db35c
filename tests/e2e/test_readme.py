"""The README shows what a person sees: its transcript is typed again, on a terminal, in a cloud like its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person, add_person, destroy, make_cloud
from tests.e2e.terminal import ENTER, terminal
from tests.storage import btrfs_mount

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
VARYING = {
    "ID": re.compile(r"\b[0-9a-f]{8}\b"),
    "TIME": re.compile(r"\b((tomorrow|yesterday) )?\d\d:\d\d(:\d\d)?\b"),
    "SECONDS": re.compile(r"\b\d+\.\d s\b"),
    "SIZE": re.compile(r"\b\d+ KiB\b"),
}


def transcript() -> list[tuple[str, str]]:
    """Each command, and what stands below it."""
    (block,) = re.findall(r"^```\n(\$ gpu-dev avail\n.*?)^```$", README, re.MULTILINE | re.DOTALL)
    typed = [part.partition("\n") for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, seen.strip()) for command, _, seen in typed]


def without_what_varies(text: str) -> str:
    for name, pattern in VARYING.items():
        text = pattern.sub(name, text)
    return text


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Path]:
    """A storage that holds a disk of the usual size, as a lab's does, whatever this machine has free."""
    folder = tmp_path / "storage"
    file = tmp_path / "storage.btrfs"
    file.touch()
    os.truncate(file, 120 * 2**30)
    subprocess.run(["mkfs.btrfs", "-q", str(file)], check=True, capture_output=True, timeout=60)
    with btrfs_mount(folder):
        yield folder


@pytest.fixture
def ada(bin_folder: Path, roomy: Path) -> Iterator[Person]:
    """A developer with a key, in a cloud like the README's."""
    types = "h100=1x8,t4=1x4"
    cloud = make_cloud(bin_folder, name="readme", number=1, simulate=types, disks=str(roomy / "disks"), disk_gib=100)
    try:
        cloud.odc("up")
        person = add_person(cloud, "a")
        person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
        person.ok("config", "ssh-include", "enable")
        yield person
    finally:
        destroy(cloud)


def typed(person: Person, command: str) -> str:
    """What stands on the terminal in the end; a question is answered with yes."""
    with terminal(person, "sh", "-c", command, columns=120) as screen:
        asked = False
        while screen.process.poll() is None:
            screen.read(0.05)
            if not asked and screen.screen.text.rstrip().endswith("(y/N)"):
                asked = True
                screen.type("y" + ENTER)
        assert screen.ended() == 0, screen.screen.text
        return screen.screen.text.strip()


@pytest.mark.podman
@pytest.mark.btrfs
def test_the_transcript_is_what_a_person_sees(ada: Person) -> None:
    commands = transcript()
    assert len(commands) >= 5
    for command, seen in commands:
        if command == "gpu-dev show train":
            ada.until("train", "cancelled")
        assert without_what_varies(typed(ada, command)) == without_what_varies(seen), command


def test_its_two_commands_are_there() -> None:
    made = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert sorted(made) == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert not [target for target in made if not re.search(rf"^{target}:.*\n\t", makefile, re.MULTILINE)]
