"""The main job from the first command to the last, on a cloud of its own: up, reserve, connect, work, end, come back.

Each command is printed as a person would type it, with its real output. Everything that it makes is taken away again;
a cloud that runs on this machine is not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
NAME = "demo"
SETTINGS = """\
cloud = "{name}"
state = "{folder}/state"
socket = "{folder}/odc.sock"
ports = [32700, 32799]
network = "10.91.0.0/20"
disk_gib = 1
disk_file_gib = 4
"""
STEPS = (
    "odc up --simulate h100=1x8,t4=1x4",
    "gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub",
    "gpu-dev avail",
    "gpu-dev reserve -t h100 -g 2 -h 1.5 -n train --disk proj --wait",
    "gpu-dev list",
    "gpu-dev connect train -- nvidia-smi -L",
    "gpu-dev connect train -- 'echo trained for an hour > notes.txt; nproc; free -h | head -2'",
    "gpu-dev cancel train",
    "gpu-dev reserve -t t4 -g 1 -h 0.5 --disk proj --wait",
    "gpu-dev connect proj -- cat notes.txt",
    "gpu-dev show train",
    "gpu-dev cancel proj",
    "odc down --all --yes",
)


def run(command: str, environment: dict[str, str]) -> None:
    """Print the command, run it, and stop the demo if it fails."""
    print(f"$ {command}", flush=True)
    done = subprocess.run(["/bin/sh", "-c", command], env=environment, stdin=subprocess.DEVNULL)
    print(flush=True)
    if done.returncode != 0:
        raise SystemExit(f"the demo stopped: {command} ended with {done.returncode}")


def start_agent(folder: Path) -> dict[str, str]:
    """A key of the demo's own, in an agent of its own, so that nobody's real keys are used."""
    (folder / ".ssh").mkdir(mode=0o700)
    key = folder / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(key)], check=True)
    told = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    pairs = (part.split("=", 1) for part in told.replace("\n", ";").split(";") if "=" in part)
    agent = {name.strip(): value for name, value in pairs}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env={**os.environ, **agent})
    return agent


def clean_up(folder: Path, environment: dict[str, str], agent: dict[str, str]) -> None:
    """Leave the machine as it was, whatever happened."""
    subprocess.run([BIN / "odc", "down", "--all", "--yes"], env=environment, capture_output=True)
    if "SSH_AGENT_PID" in agent:
        subprocess.run(["ssh-agent", "-k"], env={**os.environ, **agent}, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run every step."""
    if os.geteuid() != 0:
        raise SystemExit("the demo starts a cloud, which root does: sudo make demo")
    folder = Path(tempfile.mkdtemp(prefix="odc-demo-", dir="/var/tmp"))
    (folder / "odc.toml").write_text(SETTINGS.format(name=NAME, folder=folder))
    agent: dict[str, str] = {}
    environment = dict(os.environ)
    try:
        agent = start_agent(folder)
        environment |= agent | {
            "HOME": str(folder),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ODC_CONFIG": str(folder / "odc.toml"),
            "GPU_DEV_ENDPOINT": f"unix://{folder}/odc.sock",
        }
        for step in STEPS:
            run(step, environment)
        print("The file survived its box. Everything of the demo is gone again.")
    finally:
        clean_up(folder, environment, agent)


if __name__ == "__main__":
    main()
