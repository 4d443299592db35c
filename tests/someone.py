"""Somebody who types `gpu-dev` of this checkout against a small cloud: real processes and terminals, no containers."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
from pathlib import Path

from tests.e2e.cloud import Person
from tests.small_cloud import SmallCloud

SOURCE = Path(__file__).parents[1] / "src"


def someone(cloud: SmallCloud, folder: Path, home: str = "home") -> Person:
    """The user of this process, with a home in a folder of the tests, and one key in it.

    Args:
        cloud: the one to ask.
        folder: where the home and the command lie.
        home: the home's name.
    """
    command = folder / "bin" / "gpu-dev"
    command.parent.mkdir(parents=True, exist_ok=True)
    words = f"PYTHONPATH={shlex.quote(str(SOURCE))} exec {shlex.quote(sys.executable)} -m odc.entrypoints.gpu_dev"
    command.write_text(f'#!/bin/sh\n{words} "$@"\n')
    command.chmod(0o755)
    ssh = folder / home / ".ssh"
    ssh.mkdir(mode=0o700, parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "id_ed25519"], check=True)
    return Person(name=getpass.getuser(), home=folder / home, bin=command.parent, socket=cloud.socket)
