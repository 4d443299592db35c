"""Makes a box, with its ports, network, files and writable layer. It is not started here.

Every step may run twice. A box that is there already is returned as it is: with the ports that it got when it was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from msgspec.structs import replace

from odc.adapters.engine.box_folders import BoxFolders
from odc.adapters.engine.box_limits import core_limit
from odc.adapters.engine.container import (
    EngineOptions,
    HostPart,
    container_name,
    container_request,
    delete_command,
    network_request,
    port_of,
)
from odc.adapters.engine.container_state import box_seen, listed
from odc.adapters.engine.errors import EngineConflict, NameTaken
from odc.adapters.engine.host_ports import HostPorts
from odc.adapters.engine.layer_files import layer_file
from odc.adapters.engine.lxcfs import lxcfs_files
from odc.adapters.engine.own_containers import OwnContainers
from odc.adapters.engine.podman_api import PodmanApi
from odc.adapters.engine.resolver import find_resolver
from odc.domain.box import SSH, BoxName, BoxSeen, BoxSpec, BoxState
from odc.domain.errors import PlaceTaken
from odc.ports.box_layers import BoxLayers

LIST_LIMIT_S = 15.0
MOST_TRIES = 8
"""Ports that are tried for one box until the addresses that belong to one are free."""


class BoxMaker:
    """See `Cluster.create_box`."""

    def __init__(
        self,
        api: PodmanApi,
        options: EngineOptions,
        ours: OwnContainers,
        ports: HostPorts,
        folders: BoxFolders,
        layers: BoxLayers | None,
    ) -> None:
        """Store the arguments; the engine is not called yet.

        Args:
            api: of the engine.
            options: what every box gets.
            ours: finds a box that is there already.
            ports: gives the boxes' ports.
            folders: of the boxes' files.
            layers: of the boxes' writable layers; None: in the engine's storage, without a limit.
        """
        self._api = api
        self._options = options
        self._ours = ours
        self._ports = ports
        self._folders = folders
        self._layers = layers

    def learn_networks(self) -> None:
        """Learn from the engine which addresses are in use by networks of this cloud."""
        for network in self._api.get("/networks/json", LIST_LIMIT_S, filters=self._ours.label_filter()) or ():
            labels, subnets = network.get("labels") or {}, network.get("subnets") or ()
            for subnet in subnets:
                port = port_of(self._options, subnet["subnet"])
                if port is not None and labels.get("odc.attempt", "").isdecimal():
                    self._ports.note_network(labels.get("odc.reservation", ""), int(labels["odc.attempt"]), port)

    def make(self, spec: BoxSpec, address: str) -> BoxSeen:
        """Make the box; return it as it is now.

        Args:
            spec: of the box.
            address: where users reach its ports.

        Raises:
            PlaceTaken: there are no free ports.
            ProviderRefused: the image does not exist, or the engine cannot make such a box.
        """
        with self._layer_made(spec.name):
            ports = self._make_network(spec)
            try:
                files = (
                    spec.files if self._layers is None else {**spec.files, **layer_file(0, self._layers.limit_bytes)}
                )
                self._folders.make(spec.name, files, spec.id_base or self._options.id_base)
                made = self._create(spec, ports, address)
                ports = made.ports
                return made
            finally:
                # Also after a fault: the engine may still have made it.
                self._ports.confirm(spec.name, ports)

    @contextmanager
    def _layer_made(self, name: BoxName) -> Iterator[None]:
        """Make the box's writable layer while the engine makes the box."""
        if self._layers is None:
            yield
            return
        with ThreadPoolExecutor(max_workers=1) as other:
            made = other.submit(self._layers.prepare, name)
            yield
            made.result()

    def _make_network(self, spec: BoxSpec) -> Mapping[str, int]:
        """Create the attempt's network unless it exists; return the box's ports."""
        for left in reversed(range(MOST_TRIES)):
            ports = self._ports.give(spec.name, tuple(spec.ports))
            try:
                self._create_network(spec.name, ports[SSH])
            except PlaceTaken:
                # Something else on the machine has these addresses.
                self._ports.take_back(spec.name, refused=True)
                if not left:
                    raise
            except Exception:
                self._ports.take_back(spec.name)
                raise
            else:
                return ports
        raise PlaceTaken("no addresses are free for another network")

    def _create_network(self, name: BoxName, ssh_port: int) -> None:
        try:
            self._api.post("/networks/create", network_request(self._options, name, ssh_port))
        except EngineConflict:
            # It is there: that of the gang's first box, or of a try that was interrupted.
            if not self._ports.knows_network(name.reservation_id, name.attempt):
                self.learn_networks()
        else:
            self._ports.note_network(name.reservation_id, name.attempt, ssh_port)

    def _create(self, spec: BoxSpec, ports: Mapping[str, int], address: str) -> BoxSeen:
        part = HostPart(
            ports=ports,
            address=address,
            resolver=find_resolver(self._options.dns, self._options.dns_search),
            shown=lxcfs_files(self._options.lxcfs),
            core=core_limit(),
        )
        try:
            _, answer = self._api.post("/containers/create", container_request(self._options, spec, part))
        except NameTaken:
            # Every step may run twice. Asking first would take as long as making it.
            known = self._ours.inspect(spec.name)
            found = box_seen(listed(known)) if known is not None else None
            if found is None:
                raise
            return found if found.address else replace(found, address=address)
        container = container_name(self._options.cloud, spec.name)
        return BoxSeen(
            name=spec.name,
            uid=str(answer["Id"]),
            container=container,
            delete_command=delete_command(container),
            node=spec.node,
            gpu_type=spec.gpu_type,
            gpus=spec.gpus,
            units=spec.units,
            state=BoxState.CREATED,
            address=address,
            ports=ports,
            id_base=spec.id_base,
        )
