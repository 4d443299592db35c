"""A cloud as an earlier version left it, made from what `scripts/record_cloud.py` has recorded.

The recorded names, folders, addresses, ports, ids of containers and times are replaced by those of the test; everything
else is as that version wrote it. Its boxes are made by the real engine, by the requests which that version sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.cloud import Cloud, Person
from tests.e2e.operated import CLAIMS
from tests.image import IMAGE
from tests.waiting import eventually

from odc.adapters.engine.network_namespaces import share_namespaces
from odc.unix_http import UnixConnection

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(path.name for path in RECORDED.iterdir())
_FOLDER, _IMAGE, _NETWORK, _PORT = "/var/tmp/odc-recorded", "localhost/odc/box:recorded", "10.126.96.", 33870
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?=Z)")


@dataclass
class RecordedCloud:
    """One version's record, in the place of a cloud that was never up.

    Attributes:
        version: a folder of `RECORDED`.
        cloud: its place.
        user: who takes the place of the recorded user.
    """

    version: str
    cloud: Cloud
    user: Person
    containers: dict[str, str] = field(default_factory=dict)
    """Recorded id of a box to the real one."""

    def __post_init__(self) -> None:
        self._machine: dict[str, Any] = json.loads(self._read("machine.json"))
        self._age = datetime.now().astimezone() - datetime.fromisoformat(self._machine["recorded_at"])

    def restore(self) -> None:
        """Make everything that the version had made, with live boxes and the engine's service; its daemon is down."""
        self.cloud.state.mkdir(mode=0o700)
        self.cloud.config.write_text(self.moved(self._read("odc.toml")))
        self._write_files()
        self._mount_disks()
        self._describe_machine()
        self._make_boxes()
        with sqlite3.connect(self.cloud.state / "odc.db") as database:
            database.executescript(self.moved(self._read("records.sql")))
        (self.cloud.state / "odc.db").chmod(0o600)

    def reservation(self, name: str) -> Any:
        """The last record that the version wrote of the reservation with this name, with its times moved."""
        bodies = re.findall(r"CAST\('(.*?)' AS BLOB\)", self.moved(self._read("records.sql")))
        (found,) = (record for record in map(json.loads, bodies) if record.get("name") == name and "spec" in record)
        return found

    def name_of(self, container: str) -> str:
        """The reservation of this box, by the box's real id."""
        (old,) = (old for old, new in self.containers.items() if new == container)
        (box,) = (box for box, recorded in self._machine["containers"].items() if recorded == old)
        (made,) = (request["body"] for request in self._machine["requests"] if request["body"]["name"] == box)
        return str(made["hostname"])

    def time(self, recorded: str) -> str:
        """A recorded time, as far from now as it was then."""
        return (datetime.fromisoformat(recorded) + self._age).isoformat(timespec="microseconds")

    def moved(self, text: str) -> str:
        """The text with the test's names, addresses, ids and times in the place of the recorded ones."""
        recorded = self._machine["user"]
        uid = str(self.user.home.stat().st_uid)
        key = (self.user.home / ".ssh/id_ed25519.pub").read_text().strip()
        for old, new in (
            (_FOLDER, str(self.cloud.folder)),
            (_IMAGE, IMAGE),
            (recorded["name"], self.user.name),
            (f"unix:{recorded['uid']}", f"unix:{uid}"),
            (recorded["key"].replace(recorded["name"], self.user.name), key),
            (_NETWORK, str(self.cloud.settings["network"]).partition("0/")[0]),
            (self._machine["boot_id"], Path("/proc/sys/kernel/random/boot_id").read_text().strip()),
            *self.containers.items(),
        ):
            text = text.replace(old, new)
        text = re.sub(r'(?<=odc[-. ])recorded\b|(?<=")recorded(?=")', self.cloud.name, text)
        text = re.sub(r"\b338[789]\d\b", lambda found: str(self._port(int(found[0]))), text)
        text = re.sub(r"(?<=PT)[\d.]+(?=S)", str(time.clock_gettime(time.CLOCK_BOOTTIME)), text)
        return _TIME.sub(lambda found: self.time(f"{found[0]}+00:00").removesuffix("+00:00"), text)

    def _read(self, name: str) -> str:
        return (RECORDED / self.version / name).read_text()

    def _port(self, recorded: int) -> int:
        first: int = self.cloud.settings["ports"][0]
        return first + recorded - _PORT

    def _write_files(self) -> None:
        """The state folder. What boxes run is left as it is; the time at which one ends is a number of its own."""
        for name, facts in json.loads(self._read("files.json")).items():
            path = self.cloud.state / name
            if "text" in facts and path.name == "expires_at":
                path.write_text(f"{int(facts['text']) + int(self._age.total_seconds())}\n")
            elif "text" in facts:
                path.write_text(facts["text"] if path.parent.name == "programs" else self.moved(facts["text"]))
            elif "base64" in facts:
                path.write_bytes(base64.b64decode(facts["base64"]))
            else:
                path.mkdir()
            os.chown(path, facts["owner"], facts["owner"])
            path.chmod(int(facts["mode"], 8))

    def _mount_disks(self) -> None:
        archive, disks = RECORDED / self.version / "disks.tar.xz", self.cloud.state / "disks"
        disks.mkdir(mode=0o700)
        _run("tar", "-C", str(self.cloud.state), "-xJf", str(archive))
        _run("mount", "-o", "loop,noatime,nosuid,nodev", f"{disks}.btrfs", str(disks))
        for mount in self._machine["mounts"]:
            _run("mount", "--bind", f"{disks}{mount['volume']}", self.moved(mount["target"]))

    def _describe_machine(self) -> None:
        """What the version had outside its state folder: simulated GPUs, rules, its claim."""
        devices = Path(f"/etc/cdi/odc-{self.cloud.name}-simulated.json")
        devices.parent.mkdir(parents=True, exist_ok=True)
        devices.write_text(self.moved(json.dumps(self._machine["devices"])))
        for rule in self._machine["rules"]:
            _run("iptables", "-w", "-t", "mangle", *shlex.split(self.moved(rule)))
        CLAIMS.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(self.cloud.state).encode()).hexdigest()[:16]
        (CLAIMS / f"{name}.json").write_text(self.moved(json.dumps(self._machine["claim"])))

    def _make_boxes(self) -> None:
        """Send the recorded requests to a service like the version's own, which goes on."""
        engine = self.cloud.state / "engine"
        command = (
            f"setsid podman system service --time 0 unix://{engine}/podman.sock >>{engine}/podman.log 2>&1 & echo $!"
        )
        share_namespaces()
        environment = os.environ | {"CONTAINERS_CONF": str(engine / "containers.conf")}
        started = subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True, text=True)
        (engine / "podman.pid").write_text(started.stdout.strip())
        eventually("the engine listens", (engine / "podman.sock").exists)
        for request in self._machine["requests"]:
            made = self._send(request["path"], json.loads(self.moved(json.dumps(request["body"]))))
            if request["path"].endswith("/containers/create"):
                self.containers[self._machine["containers"][request["body"]["name"]]] = made["Id"]
                self._send(request["path"].replace("create", f"{made['Id']}/start"), {})

    def _send(self, path: str, body: dict[str, Any]) -> Any:
        connection = UnixConnection(str(self.cloud.state / "engine/podman.sock"), timeout_s=60)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status < 300, f"{path}: {answer.status} {content.decode()}"
            return json.loads(content or b"null")
        finally:
            connection.close()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
