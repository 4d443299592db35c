"""Record a cloud of an installed version for `tests/e2e/test_upgrade.py`: its records, files, disks and live boxes.

    git worktree add /var/tmp/odc-0.1.0 4a3672d && make -C /var/tmp/odc-0.1.0 check
    sudo python3 scripts/record_cloud.py /var/tmp/odc-0.1.0/.venv/bin tests/e2e/recorded/0.1.0

Only the commands of that version are used. The cloud is called `recorded`, its folder is /var/tmp/odc-recorded and its
user is odc-recorded-a (uid 29999), so that the test can put its own in their places. At the end all of it is removed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path("/var/tmp/odc-recorded")
STATE = FOLDER / "state"
USER, UID = "odc-recorded-a", 29999
IMAGE = "localhost/odc/box:recorded"
SIMULATE = "h100=1x8,t4=1x4"
CLAIMS = Path("/run/odc/clouds")
DEVICES = Path("/etc/cdi/odc-recorded-simulated.json")
SETTINGS = f"""\
cloud = "recorded"
state = "{STATE}"
socket = "{FOLDER}/odc.sock"
ports = [33870, 33899]
network = "10.126.96.0/19"
image = "{IMAGE}"
disk_gib = 0.5
disk_file_gib = 1

[limits]
missing_s = 1
grace_s = 5
"""
REQUEST = re.compile(rb"POST (\S+/libpod/(?:networks|containers)/create) HTTP/1\.1\r\n.*?\r\n\r\n", re.DOTALL)
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
LEFT_OUT = re.compile(r"(disks|lxcfs|engine/podman)(?!\.id)|odc\.(db|log)|daemon\.lock")
"""Of the state folder: what is recorded in another way, logs, and what another machine does not have."""


class Recorder:
    """Forwards connections to the engine's service, and remembers what was sent to it."""

    def __init__(self, address: Path) -> None:
        self.requests: list[dict[str, Any]] = []
        self._real = address.with_suffix(".real")
        address.rename(self._real)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._real))
            threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, keep: bool) -> None:
        sent = b""
        while part := source.recv(65536):
            if keep:
                sent = self._take(sent + part)
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)

    def _take(self, sent: bytes) -> bytes:
        """Note the whole requests among these bytes; return what may be the beginning of another one."""
        while found := REQUEST.search(sent):
            length = LENGTH.search(found.group())
            end = found.end() + int(length[1] if length else 0)
            if len(sent) < end:
                break
            self.requests.append({"path": found[1].decode(), "body": json.loads(sent[found.end() : end])})
            sent = sent[end:]
        return sent


def run(*words: str | Path, user: str | int = 0, check: bool = True) -> str:
    """Run a command as this user; return its output."""
    home = str(FOLDER / USER) if user else "/root"
    environment = {**os.environ, "HOME": home, "GPU_DEV_ENDPOINT": f"unix://{FOLDER}/odc.sock"}
    done = subprocess.run(
        [str(word) for word in words], user=user, cwd="/", env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, extra_groups=[],
    )  # fmt: skip
    if check and done.returncode != 0:
        sys.exit(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def make_cloud(commands: Path) -> Recorder:
    """Start the cloud, with its engine's socket behind a recorder."""
    FOLDER.mkdir(mode=0o755)
    (FOLDER / "odc.toml").write_text(SETTINGS)
    run("useradd", "--uid", str(UID), "--create-home", "--home-dir", FOLDER / USER, "--shell", "/bin/bash", USER)
    run("mkdir", "-m", "700", FOLDER / USER / ".ssh", user=UID)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", FOLDER / USER / ".ssh/id_ed25519", user=UID)
    odc = (commands / "odc", "--config", FOLDER / "odc.toml")
    run(*odc, "up", "--simulate", SIMULATE)
    run(*odc, "down")
    recorder = Recorder(STATE / "engine/podman.sock")
    run(*odc, "up")
    return recorder


def use_cloud(commands: Path) -> None:
    """Have an ended reservation, two active ones and a queued one."""

    def gpu_dev(*words: str) -> str:
        return run(commands / "gpu-dev", *words, user=UID)

    def reserve(name: str, gpus: str, hours: str, disk: str, wait: str = "--wait") -> None:
        gpu_type, _, count = gpus.partition(":")
        what = ("-t", gpu_type, "-g", count, "-h", hours, "-n", name, "--disk", disk)
        gpu_dev("reserve", *what, wait, "--yes")

    gpu_dev("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    reserve("first", "t4:2", "1", "old")
    gpu_dev("connect", "first", "--", "echo first > file && sync")
    gpu_dev("cancel", "first", "--yes")
    while json.loads(gpu_dev("show", "first", "--json"))["state"] != "cancelled":
        time.sleep(0.2)
    reserve("work", "h100:8", "20", "data")
    gpu_dev("connect", "work", "--", "echo work > file && sync")
    reserve("scratch", "t4:1", "20", "none")
    gpu_dev("connect", "scratch", "--", "echo scratch > file && sync")
    reserve("next", "h100:8", "2", "none", "--no-wait")
    while not json.loads(gpu_dev("show", "next", "--json"))["ready_by"]:
        time.sleep(0.2)


def dump_records() -> str:
    """All records as SQL, with the bodies as text."""
    with sqlite3.connect(STATE / "odc.db") as database:
        lines = "\n".join(database.iterdump()) + "\n"

    def as_text(found: re.Match[str]) -> str:
        text = bytes.fromhex(found[1]).decode().replace("'", "''")
        return f"CAST('{text}' AS BLOB)"

    return re.sub(r"X'([0-9A-F]*)'", as_text, lines)


def list_files() -> dict[str, dict[str, Any]]:
    """The files of the state folder: path to mode, owner and content (None for a folder)."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(STATE.rglob("*")):
        inside = path.relative_to(STATE)
        if LEFT_OUT.match(str(inside)) or not (path.is_file() or path.is_dir()) or path.is_symlink():
            continue
        stat = path.stat()
        facts: dict[str, Any] = {"mode": f"{stat.st_mode & 0o7777:04o}", "owner": stat.st_uid}
        if path.is_file():
            content = path.read_bytes()
            try:
                facts["text"] = content.decode()
            except UnicodeDecodeError:
                facts["base64"] = base64.b64encode(content).decode()
        found[str(inside)] = facts
    return found


def list_mounts() -> list[dict[str, str]]:
    """The mounts of volumes, in order: which folder of the disks' file system, and where."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[4].startswith(f"{STATE}/disks/"):
            found.append({"volume": words[3], "target": words[4]})
    return found


def engine_requests(recorder: Recorder) -> list[dict[str, Any]]:
    """What was sent to make the live boxes and their networks."""
    live = run("podman", "ps", "--format", "{{.Names}}", "--filter", "label=odc.cloud=recorded").split()
    names = {*live, *(name.rpartition("-")[0] for name in live)}
    requests = [request for request in recorder.requests if request["body"].get("name") in names]
    for request in requests:
        # lxcfs is a process of the recorded machine: the boxes are recorded as on a machine without it.
        mounts = request["body"].get("mounts", [])
        mounts[:] = [mount for mount in mounts if "/lxcfs/" not in mount["source"]]
    return requests


def list_containers() -> dict[str, str]:
    """The engine's ids of the live boxes, by their names."""
    lines = run("podman", "ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}", "--filter", "label=odc.cloud=recorded")
    return dict(line.split() for line in lines.splitlines())


def describe_machine(recorder: Recorder) -> dict[str, Any]:
    """What belongs to the cloud outside its state folder."""
    rules = run("iptables", "-w", "-t", "mangle", "-S").splitlines()
    claims = [claim for path in CLAIMS.glob("*.json") if (claim := json.loads(path.read_text()))["cloud"] == "recorded"]
    return {
        "recorded_at": datetime.now(UTC).isoformat(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "user": {"name": USER, "uid": UID, "key": (FOLDER / USER / ".ssh/id_ed25519.pub").read_text().strip()},
        "claim": claims[0],
        "devices": json.loads(DEVICES.read_text()),
        "rules": [line for line in rules if '"odc recorded: boxes"' in line],
        "mounts": list_mounts(),
        "containers": list_containers(),
        "requests": engine_requests(recorder),
    }


def record(target: Path, recorder: Recorder) -> None:
    """Write everything while the boxes are live and the daemon is down."""
    target.mkdir(parents=True)
    (target / "machine.json").write_text(json.dumps(describe_machine(recorder), indent=1) + "\n")
    (target / "files.json").write_text(json.dumps(list_files(), indent=1) + "\n")
    (target / "records.sql").write_text(dump_records())
    (target / "odc.toml").write_text(SETTINGS)
    run("fsfreeze", "--freeze", STATE / "disks")
    try:
        run("tar", "-C", STATE, "--sparse", "-cJf", target / "disks.tar.xz", "disks.btrfs")
    finally:
        run("fsfreeze", "--unfreeze", STATE / "disks")


def main() -> None:
    """Record the version whose commands are in the first argument into the folder of the second."""
    commands, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    odc = (commands / "odc", "--config", FOLDER / "odc.toml")
    try:
        recorder = make_cloud(commands)
        use_cloud(commands)
        run(*odc, "down")
        record(target, recorder)
    finally:
        run(*odc, "up", check=False)
        run(*odc, "down", "--all", "--yes", check=False)
        run("userdel", USER, check=False)
        run("podman", "image", "rm", IMAGE, check=False)
        shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
