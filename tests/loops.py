"""The machine's loop devices, for tests that none of a run stays."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path


def loop_devices() -> dict[str, str]:
    """Device to the file behind it."""
    command = ["losetup", "-l", "-n", "-O", "NAME,BACK-FILE"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return {device: file.strip() for device, _, file in pairs}


def is_kept_elsewhere(device: str) -> bool:
    """Whether a process with mounts of its own has it mounted.

    Where the host does not share its mounts, as without systemd, the engine's monitor of any box on the machine keeps a
    copy of all mounts until that box ends, and with them the devices.
    """
    own = Path("/proc/self/ns/mnt").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            table = (process / "mountinfo").read_text()
            if f" {device} " in table and (process / "ns/mnt").readlink() != own:
                return True
    return False


def loops_left(folder: str) -> list[str]:
    """The files in a folder that loop devices still use, without those that only another's box keeps."""
    mine = {device for device, file in loop_devices().items() if folder in file}
    free = {device for device in mine if not is_kept_elsewhere(device)}
    # A keeper that ended meanwhile has taken its device along.
    return [file for device, file in loop_devices().items() if device in free and folder in file]
