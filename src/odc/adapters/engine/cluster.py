"""The cluster on one machine's Podman: boxes as containers, real or simulated nodes.

Speed: making and starting a box is four calls, of which the engine's own work is nearly all; a list is one call.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from odc.adapters.engine.box_folders import BoxFolders
from odc.adapters.engine.box_limits import limit_sockets
from odc.adapters.engine.box_maker import BoxMaker
from odc.adapters.engine.box_reports import read_report
from odc.adapters.engine.container import (
    EngineOptions,
    files_parent,
    is_everywhere,
    network_name,
)
from odc.adapters.engine.container_state import box_seen, is_dead, is_ending, layer_of, runs, state_of, unframed
from odc.adapters.engine.errors import Busy, EngineConflict, NotThere, telling_line
from odc.adapters.engine.firewall import keep_apart
from odc.adapters.engine.foreign_containers import ForeignContainers
from odc.adapters.engine.host_checks import HostChecks
from odc.adapters.engine.host_ports import HostPorts
from odc.adapters.engine.kernel_limits import raise_limits
from odc.adapters.engine.layer_files import LayerFiles
from odc.adapters.engine.lxcfs import lxcfs_files
from odc.adapters.engine.memory_kills import MemoryWatch
from odc.adapters.engine.own_containers import OwnContainers
from odc.adapters.engine.podman_api import PodmanApi
from odc.domain.box import SSH, BoxName, BoxSeen, BoxSpec, BoxState, StartWait
from odc.domain.errors import PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.host import HostReport
from odc.domain.node import Node
from odc.host import poll_until
from odc.ports.box_layers import BoxLayers, LayerUse

BANNER_LIMIT_S = 0.5
CONNECT_LIMIT_S = 0.15
RETRY_S = 0.005
STOP_EXTRA_S = 60.0
GRACE_EXTRA_S = 5.0
"""How much longer than its grace a box may take: its first process ends the others, and then itself."""
LIST_LIMIT_S = 15.0
BUSY_S = 3.0
_NOT_MODIFIED = 304
_ENDED = ("exited", "stopped")
_PAUSED = "paused"
_STARTED = ("running", "paused", "stopping")
_ENDED_UNSEEN = {"State": "exited", "ExitCode": 137}
# Printed by the OCI runtime when the box's own program cannot run at all in the image.
_CANNOT_RUN = ("exec format error", "no such file or directory", "permission denied")


class EngineCluster:
    """See `odc.ports.cluster`. The engine's labels mark this cloud's containers; no others are changed."""

    def __init__(
        self, api: PodmanApi, nodes: tuple[Node, ...], options: EngineOptions, layers: BoxLayers | None = None
    ) -> None:
        """Store the arguments; the engine is not called yet.

        Args:
            api: of the engine.
            nodes: by name; they do not change while the process lives.
            options: what every box gets.
            layers: where boxes' writable layers are kept; None: in the engine's storage, without a limit.
        """
        self._api = api
        self._layers = layers
        self._nodes = nodes
        self._options = options
        self._own_address = "127.0.0.1" if is_everywhere(options.listen) else options.listen
        self._folders = BoxFolders(files_parent(options))
        self._ours = OwnContainers(api, options.cloud)
        self._ports = HostPorts(options.listen, options.ports)
        self._layer_files = LayerFiles(self._folders)
        self._maker = BoxMaker(api, options, self._ours, self._ports, self._folders, layers)
        self._knows_ports = False
        self._foreign = ForeignContainers(api, options.cloud, options.gpu_paths, options.ignored_containers)
        self._memory = MemoryWatch()
        self._end_by: dict[str, float] = {}
        self._host = HostChecks(api, options, self._own_address)

    def list_nodes(self) -> tuple[Node, ...]:
        """Return the machine's nodes, each with the GPUs that other containers hold now, and those that cannot be
        used.
        """
        full = self._ports.shortage()
        if not any(node.gpus for node in self._nodes):
            return tuple(replace(node, full=full) for node in self._nodes)
        held = self._foreign.held(self._api.get("/containers/json", LIST_LIMIT_S, all=True) or ())
        broken = self._host.broken_gpus
        return tuple(
            replace(
                node,
                full=full,
                held_by_others={gpu: held[gpu] for gpu in node.gpus if gpu in held},
                unusable={gpu: broken[gpu] for gpu in node.gpus if gpu in broken},
            )
            for node in self._nodes
        )

    def list_boxes(self) -> tuple[BoxSeen, ...]:
        """Return every box of this cloud, by name.

        A box whose first process is gone has ended, even if its monitor died first, so that the engine does not notice.
        """
        number = self._ports.number
        entries = self._api.get("/containers/json", LIST_LIMIT_S, all=True, filters=self._ours.label_filter()) or ()
        self._memory.begin(frozenset(str(entry["Id"]) for entry in entries))
        boxes = (self._seen(entry | _ENDED_UNSEEN if is_dead(entry) else entry) for entry in entries)
        uses = self._layers.measure() if self._layers else {}
        found = [_with_layer(box, uses.get(str(box.name))) for box in boxes if box is not None]
        self._ports.learn(found, number)
        return tuple(sorted(found, key=lambda box: box.name))

    def _seen(self, entry: Mapping[str, Any]) -> BoxSeen | None:
        def was_killed() -> bool:
            known = self._api.get(f"/containers/{entry['Id']}/json") or {}
            return bool(known.get("State", {}).get("OOMKilled"))

        box = box_seen(entry, self._memory.of(entry, was_killed))
        if box is None or box.state is not BoxState.RUNNING:
            return box
        return replace(box, report=read_report(int(entry.get("Pid") or 0), box.uid))

    def list_remains(self) -> tuple[tuple[str, int], ...]:
        """Reservation and attempt of every network and folder of this cloud."""
        known = self._api.get("/networks/json", LIST_LIMIT_S, filters=self._ours.label_filter()) or ()
        labels = [network.get("labels") or {} for network in known]
        networks = {(found.get("odc.reservation", ""), found.get("odc.attempt", "")) for found in labels}
        found = networks | self._folders.attempts() | (self._layers.attempts() if self._layers else set())
        return tuple(sorted((key, int(number)) for key, number in found if key and number.isdecimal()))

    def create_box(self, spec: BoxSpec) -> BoxSeen:
        """Make the box with its network, files and ports."""
        if not self._knows_ports:
            # In this process no pass has listed the boxes yet.
            self.list_boxes()
            self._maker.learn_networks()
            self._knows_ports = True
        return self._maker.make(spec, self._address_of(spec.node))

    def _address_of(self, name: str) -> str:
        return next((node.address for node in self._nodes if node.name == name), self._own_address)

    def start_box(self, name: BoxName, uid: str) -> StartWait | None:
        """Start the box of this uid. It never has to wait: its node is this machine, which has the image."""
        known = self._settled(name, uid)
        if known is None:
            raise ProviderRefused(f"box {name} ({uid[:12]}) is not there")
        self._mount_layer(name, known)
        raise_limits(self._options.limits.kernel, self._options.limits.noted)  # the host may have reset them
        keep_apart(self._options.cloud, self._options.network, self._options.metadata)
        lxcfs_files(self._options.lxcfs)  # the box was made with these
        try:
            status, _ = self._api.post(f"/containers/{uid}/start")
        except PlaceTaken:
            self._ports.take_back(name, refused=True)
            raise
        except NotThere as error:
            raise ProviderRefused(f"box {name} ({uid[:12]}) is not there any more") from error
        if status != _NOT_MODIFIED:
            self._check_layer(name, known)
        units = int(known["Config"]["Labels"]["odc.units"])
        limit_sockets(uid, self._options.limits.socket_bytes_per_unit * units)
        if status == _NOT_MODIFIED and self._is_stuck(uid):
            raise ProviderRefused(
                "it was killed, and before it the engine's monitor, so the engine takes it for running"
            )
        return None

    def _settled(self, name: BoxName, uid: str) -> dict[str, Any] | None:
        """Return the box of this name and uid, once the engine has cleaned up after its last end; None if there is
        none.

        The engine notes an end first and takes the network away afterwards, in a process of its own. A start in between
        gives the box a second network address, while its port leads to the first one, and leaves that network behind.

        Raises:
            ProviderUnavailable: the engine does not get to it.
        """
        known: dict[str, Any] | None = None

        def has_settled() -> bool:
            nonlocal known
            known = self._ours.find(name, uid)
            return known is None or not is_ending(known)

        if not poll_until(has_settled, BUSY_S):
            # The process that does it may have been killed, as for memory.
            command = ["podman", "container", "cleanup", uid]
            subprocess.run(command, env=dict(self._options.environment), capture_output=True, timeout=STOP_EXTRA_S)
            if not has_settled():
                raise ProviderUnavailable(f"box {name} has ended, and the engine has not cleaned up after it")
        return known

    def _mount_layer(self, name: BoxName, known: Mapping[str, Any]) -> None:
        """Mount the writable layer of a box that does not run; after a reboot it is not mounted any more."""
        layer = layer_of(known)
        if self._layers is not None and layer is not None and state_of(known) not in _STARTED:
            self._layers.mount(name, layer, Path(known["ConmonPidFile"]).parent)

    def _check_layer(self, name: BoxName, known: Mapping[str, Any]) -> None:
        """Check that the engine has started the box in its mounted layer; kill it otherwise: it would have no limit.

        The end of another engine command may have taken the mount away right before the start, but not after it.

        Raises:
            ProviderUnavailable: the box was killed; a further start mounts the layer again.
        """
        layer = layer_of(known)
        if self._layers is None or layer is None or self._layers.is_mounted(name, layer):
            return
        with suppress(NotThere, EngineConflict):
            self._api.post(f"/containers/{known['Id']}/kill", signal="SIGKILL")
        raise ProviderUnavailable(f"another engine command took away the storage of box {name} as it started")

    def _is_stuck(self, uid: str) -> bool:
        """Whether a box that the engine reports as running has neither its first process nor a monitor that could
        report the end.

        A monitor that exits normally reports first, so the second read would see that report.
        """
        for _ in range(2):
            state = (self._api.get(f"/containers/{uid}/json") or {}).get("State", {})
            if state.get("Status") != "running" or runs(state["Pid"]) or runs(state["ConmonPid"]):
                return False
        return True

    def ssh_answers(self, box: BoxSeen) -> bool:
        """Whether an SSH server answers at the box's port. A refused connection is retried for a moment."""
        if poll_until(lambda: self._has_ssh_banner(box.ports.get(SSH, 0)), CONNECT_LIMIT_S, RETRY_S):
            return True
        self._raise_if_exited(box.name)
        return False

    def _has_ssh_banner(self, port: int) -> bool:
        try:
            with socket.create_connection((self._own_address, port), timeout=BANNER_LIMIT_S) as connection:
                return connection.recv(8).startswith(b"SSH-")
        except OSError:
            return False

    def _raise_if_exited(self, name: BoxName) -> None:
        known = self._ours.inspect(name)
        if known is None:
            raise ProviderRefused(f"box {name} is not there any more")
        if state_of(known) in _ENDED:
            words = self._last_log_line(str(known["Id"]))
            if any(part in words.lower() for part in _CANNOT_RUN):
                words = f"its image cannot run odc-box, which needs /bin/sh for this processor ({words})"
            raise ProviderRefused(f"the box ended with {known['State']['ExitCode']}: {words}")

    def _last_log_line(self, uid: str) -> str:
        """Return the last line that the box printed."""
        raw = self._api.text(f"/containers/{uid}/logs", stdout=True, stderr=True, tail=50)
        lines = unframed(raw).decode(errors="replace").splitlines()
        # Clients that connect and leave, as our own probes do, do not explain why the box ended.
        telling = telling_line("\n".join(line for line in lines if "[preauth]" not in line))
        return telling.removeprefix("odc-box: ") or "it printed nothing"

    def write_files(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        """Replace the files that the box reads."""
        self._folders.replace(name, files)

    def end_box(self, name: BoxName, uid: str, grace: timedelta) -> bool:
        """Ask the box's processes to end; delete the box when they have, or when the grace is over."""
        known = self._api.get(f"/containers/{uid}/json")
        if known is not None and (known["Id"] != uid or not self._ours.owns(known, name)):
            return True
        if known is not None and self._may_still_run(known, uid, grace):
            return False
        # Also when it is not there: an engine that was interrupted may have left its files.
        if not self._deleted(uid) or self._ours.find(name, uid) is not None:
            return False
        self._end_by.pop(uid, None)
        self._ports.take_back(name)
        return True

    def _may_still_run(self, known: Mapping[str, Any], uid: str, grace: timedelta) -> bool:
        """Whether the box's processes run and have time left. They are asked to end once."""
        state = state_of(known)
        if not grace or state not in _STARTED or not runs(known["State"]["Pid"]):
            return False
        if uid not in self._end_by:
            with suppress(NotThere, EngineConflict):
                if state == _PAUSED:  # by somebody; processes that are paused do not end
                    self._api.post(f"/containers/{uid}/unpause")
                self._api.post(f"/containers/{uid}/kill", signal="SIGTERM")
            self._end_by[uid] = time.monotonic() + grace.total_seconds() + GRACE_EXTRA_S
        return time.monotonic() < self._end_by[uid]

    def _deleted(self, uid: str) -> bool:
        """Request the deletion; return False while the engine's own clean-up of a box that has just ended uses its
        mounts.
        """
        try:
            self._api.delete(f"/containers/{uid}", timeout_s=STOP_EXTRA_S, force=True, v=True, timeout=0)
        except Busy:
            return False
        return True

    def clean_up(self, reservation_id: str, attempt: int) -> None:
        """Delete the networks and files of this attempt and earlier ones.

        A network to which an operator has added a container of their own is kept, with that container: the engine
        refuses to delete it.
        """
        known = self._api.get("/networks/json", filters=self._ours.label_filter(f"odc.reservation={reservation_id}"))
        names = {network_name(self._options.cloud, reservation_id, number) for number in range(attempt + 1)}
        for network in known or ():
            if network["name"] in names:
                self._api.delete(f"/networks/{network['name']}")
        self._ports.forget_networks(reservation_id, attempt)
        self._folders.remove(reservation_id, attempt)
        if self._layers is not None:
            self._layers.remove(reservation_id, attempt)

    def check_host(self, boxes: Sequence[BoxSeen]) -> HostReport:
        """Check the host's rules, mounts and limits that running boxes need, and restore missing ones."""
        self._layer_files.write(boxes)
        return self._host.check(boxes)


def _with_layer(box: BoxSeen, use: LayerUse | None) -> BoxSeen:
    return box if use is None else replace(box, layer_used_bytes=use.used_bytes, layer_bytes=use.limit_bytes)
