"""What operators' tests look at: all that a cloud has on its machine, and clouds that must not start."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.cloud import Cloud, Person, addresses, processes_of
from tests.image import IMAGE
from tests.loops import loops_left

CLAIMS = Path("/run/odc/clouds")


def left_of(cloud: Cloud) -> list[str]:
    """What there is of a cloud beside the files in its own folder; empty after `odc down --all`."""
    folder = str(cloud.folder)
    found = [f"box {box['Names']}" for box in cloud.boxes()]
    found += [f"network {name}" for name in cloud.networks()]
    found += [f"bridge {link}" for link in cloud.links()]
    found += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if folder in line]
    found += [f"loop device {file}" for file in loops_left(folder)]
    found += [f"rule {line}" for line in rules_of(cloud)]
    found += [f"devices {path}" for path in Path("/etc/cdi").glob(f"*{cloud.name}*")]
    found += [f"process {pid}" for pid in processes_of([cloud.folder])]
    found += [f"claim {path}" for path in CLAIMS.glob("*.json") if json.loads(path.read_bytes())["cloud"] == cloud.name]
    return found


def rules_of(cloud: Cloud) -> list[str]:
    """The cloud's rules in the machine's packet filter."""
    return [line for line in _lines("iptables", "-w", "-t", "mangle", "-S", "FORWARD") if f"odc {cloud.name}:" in line]


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def stranger(like: Cloud, name: str, /, **changes: Any) -> Cloud:
    """A cloud that is not meant to come up, with nothing of this one but the folder around it, unless so changed."""
    values = {"cloud": name, "state": str(like.folder / name), "socket": str(like.folder / f"{name}.sock")}
    values |= {"simulate": "t4=1x4", "image": IMAGE, **addresses(3), **changes}
    config = like.folder / f"{name}.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    return dataclasses.replace(like, config=config)


def reserve(person: Person, name: str, disk: str = "none", gpus: int = 1) -> str:
    """A box of this name, in which a file says it; the reservation's id."""
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    what = ("-t", "t4", "-g", str(gpus), "-h", "0.5", "-n", name, "--disk", disk)
    person.ok("reserve", *what, "--wait", "--yes")
    assert person.in_box(name, f"echo {name} > file && sync").code == 0
    return str(person.view(name)["id"])
