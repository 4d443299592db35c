"""The cluster on one machine's Podman: boxes as containers, nodes as they were found or pretended."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from odc.adapters.engine.api import PodmanApi, error_of
from odc.adapters.engine.container import (
    EngineOptions,
    box_seen,
    container_name,
    container_request,
    files_folder,
    network_name,
    network_request,
)
from odc.domain.box import BoxName, BoxSeen, BoxSpec
from odc.domain.errors import ProviderRefused, ProviderUnavailable
from odc.domain.node import Node

GREETING_S = 0.8
STOP_EXTRA_S = 60.0
BUSY_S = 3.0
_SECRET = "host_keys/ssh_host_ed25519_key"  # noqa: S105  # a file's name


class EngineCluster:
    """See `odc.ports.cluster`. The engine's labels say which containers are this cloud's; no other is touched."""

    def __init__(self, api: PodmanApi, nodes: tuple[Node, ...], options: EngineOptions) -> None:
        self._api = api
        self._nodes = nodes
        self._options = options

    def list_nodes(self) -> tuple[Node, ...]:
        """The machine's nodes. They are there while the engine answers `list_boxes`."""
        return self._nodes

    def list_boxes(self) -> tuple[BoxSeen, ...]:
        """Every box of this cloud, by name."""
        filters = json.dumps({"label": [f"odc.cloud={self._options.cloud}"]})
        entries = self._api.get("/containers/json", all=True, filters=filters)
        return tuple(sorted((box_seen(entry) for entry in entries or ()), key=lambda box: box.name))

    def create_box(self, spec: BoxSpec) -> str:
        """Make the box with its network and files."""
        name = container_name(self._options.cloud, spec.name)
        known = self._api.get(f"/containers/{name}/json")
        if known is not None:
            return str(known["Id"])
        self._make_network(spec)
        self._put_files(spec.name, spec.files)
        status, answer = self._api.post("/containers/create", container_request(self._options, spec))
        if status == 409:
            return str(self._api.get(f"/containers/{name}/json")["Id"])
        if status >= 400:
            raise error_of(status, str(answer))
        return str(answer["Id"])

    def _make_network(self, spec: BoxSpec) -> None:
        name = network_name(self._options.cloud, spec.name.reservation_id, spec.name.attempt)
        if self._api.get(f"/networks/{name}/json") is not None:
            return
        status, answer = self._api.post("/networks/create", network_request(self._options, spec))
        if status >= 400 and status != 409:
            raise error_of(status, str(answer))

    def start_box(self, name: BoxName, uid: str) -> None:
        """Start the box of this uid."""
        status, answer = self._api.post(f"/containers/{uid}/start")
        if status == 404:
            raise ProviderRefused(f"box {name} ({uid[:12]}) is not there")
        if status == 409:
            raise error_of(500, str(answer))

    def ssh_answers(self, box: BoxSeen | BoxSpec) -> bool:
        """Whether an SSH server greets at the box's port."""
        try:
            with socket.create_connection((self._options.listen, box.ssh_port), timeout=GREETING_S) as connection:
                connection.settimeout(GREETING_S)
                if connection.recv(8).startswith(b"SSH-"):
                    return True
        except OSError:
            pass
        self._raise_if_exited(box.name)
        return False

    def _raise_if_exited(self, name: BoxName) -> None:
        known = self._api.get(f"/containers/{container_name(self._options.cloud, name)}/json")
        if known is None:
            raise ProviderRefused(f"box {name} is not there any more")
        if str(known["State"]["Status"]).lower() in ("exited", "stopped"):
            words = self._last_words(str(known["Id"]))
            raise ProviderRefused(f"the box ended with {known['State']['ExitCode']}: {words}")

    def _last_words(self, uid: str) -> str:
        """The last line that the box said."""
        raw = self._api.text(f"/containers/{uid}/logs", stdout=True, stderr=True, tail=5)
        lines = [line for line in _unframed(raw).decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def write_files(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        """Replace what the box reads."""
        if files_folder(self._options, name).exists():
            self._put_files(name, files)

    def _put_files(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        folder = files_folder(self._options, name)
        root = self._options.id_base
        for parent in (folder, *{(folder / path).parent for path in files}):
            parent.mkdir(parents=True, exist_ok=True)
            os.chown(parent, root, root)
            parent.chmod(0o755)
        for path, content in files.items():
            _replace_file(folder / path, content, root, 0o600 if path == _SECRET else 0o644)

    def stop_box(self, name: BoxName, uid: str, grace: timedelta) -> None:
        """Ask the box's processes to end; end them when the grace is over."""
        seconds = int(grace.total_seconds()) + 5
        self._api.post(f"/containers/{uid}/stop", timeout_s=seconds + STOP_EXTRA_S, timeout=seconds)

    def remove_box(self, name: BoxName, uid: str) -> None:
        """Delete the box of exactly this uid."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                return self._api.delete(f"/containers/{uid}", timeout_s=STOP_EXTRA_S, force=True, v=True, timeout=0)
            except ProviderUnavailable as error:
                # The engine's own clean-up of a box that has just ended still holds its mounts for a moment.
                if "busy" not in error.message or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def clean_up(self, reservation_id: str, attempt: int) -> None:
        """Delete the networks and files of this attempt and earlier ones."""
        filters = json.dumps({"label": [f"odc.cloud={self._options.cloud}", f"odc.reservation={reservation_id}"]})
        networks: list[dict[str, Any]] = self._api.get("/networks/json", filters=filters) or []
        for network in networks:
            if int(network["name"].rpartition("-")[2]) <= attempt:
                self._api.delete(f"/networks/{network['name']}", force=True)
        for folder in (self._options.state / "boxes").glob(f"{reservation_id}-*"):
            if int(folder.name.split("-")[1]) <= attempt:
                shutil.rmtree(folder, ignore_errors=True)


def _replace_file(path: Path, content: bytes, owner: int, mode: int) -> None:
    """Write the file whole: a reader sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, owner, owner)
        os.fchmod(descriptor, mode)
        file.write(content)
    fresh.replace(path)


def _unframed(raw: bytes) -> bytes:
    """The log without the engine's frames: 8 bytes before each piece, the last four its length."""
    if raw[:1] not in (b"\x00", b"\x01", b"\x02"):
        return raw
    pieces, at = [], 0
    while at + 8 <= len(raw):
        length = int.from_bytes(raw[at + 4 : at + 8], "big")
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)
