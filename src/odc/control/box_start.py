"""The steps of making and starting the boxes of an attempt: keys, disk, box, node, image, SSH. See `phased_task`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from msgspec.structs import replace

from odc.control.box_files import BoxAccess, box_files, box_spec, holder_of, reservation_of
from odc.control.context import Policy, Ports
from odc.control.orphaned_disks import label_of
from odc.control.owner_keys import OwnerKeys
from odc.control.phased_task import TaskStep
from odc.control.task_guard import TaskGuard
from odc.domain.box import HOME, BoxMount, BoxSeen, BoxSpec, StartPhase
from odc.domain.disk import Disk
from odc.domain.errors import Conflict, InvariantError, PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.node import Node
from odc.domain.records import Change
from odc.domain.reservation import Phase, Place, Reservation, State
from odc.domain.storage import gib_text


@dataclass(frozen=True, slots=True)
class Ready:
    """Result of a start: the places with their boxes' uids, and how long the phases took that are not in the record."""

    places: tuple[Place, ...] = ()
    phases: tuple[Phase, ...] = ()


class BoxStart:
    """One start of an attempt's boxes. It also restarts boxes that have stopped: what is done already does nothing."""

    def __init__(
        self, ports: Ports, policy: Policy, guard: TaskGuard, record: Reservation, nodes: tuple[Node, ...]
    ) -> None:
        """Prepare; nothing is made yet.

        Args:
            ports: what the steps act on.
            policy: the operator's.
            guard: of this task.
            record: PREPARING or ACTIVE.
            nodes: as the pass observed them.
        """
        self._ports = ports
        self._policy = policy
        self._guard = guard
        self._record = record
        self._nodes = nodes
        self._disk: Disk | None = None
        self._access: BoxAccess | None = None
        self._home: BoxMount | None = None
        self._made: list[BoxSeen] = []
        self._waiting: list[BoxSeen] = []
        self._silent: list[BoxSeen] = []

    def steps(self) -> list[TaskStep]:
        """The steps, in order."""
        attach = [TaskStep("disk", self._attach, self._disk_size)] if self._record.disk_id else []
        return [
            # Keys first: without them nobody could log in to the box.
            TaskStep("", self._fetch_keys),
            *attach,
            TaskStep("box", self._make_boxes),
            # In clusters that add nodes or fetch images; a gang has each phase once, for all of its boxes.
            TaskStep(StartPhase.NODE, partial(self._wait_for_start, StartPhase.NODE), optional=True),
            TaskStep(StartPhase.IMAGE, partial(self._wait_for_start, StartPhase.IMAGE), optional=True),
            TaskStep("ssh", self._ask_ssh),
        ]

    def ready(self, phases: tuple[Phase, ...]) -> Ready:
        """The result, after the last step."""
        made = zip(self._record.places, self._made, strict=True)
        places = tuple(_with_box(place, box) for place, box in made)
        return Ready(places=places, phases=phases)

    def _fetch_keys(self) -> str:
        self._guard.check_lease()
        user = OwnerKeys(self._ports, self._policy).fresh(self._record)
        self._access = BoxAccess(user.keys, find_host_key(self._ports, self._record))
        return ""

    def _disk_size(self) -> str:
        return gib_text(self._disk.size_bytes) if self._disk else ""

    def _attach(self) -> str:
        self._guard.check_lease()
        disk = self._disk = find_disk(self._ports, self._record)
        if disk is None:
            return ""
        # A disk that was used once is never created again: an empty one would look like lost data.
        if not disk.made and not self._create(disk):
            return "its volume is being made"
        self._take_from_unknown(disk)
        place = self._record.places[0]
        attachment = self._ports.volumes.attach(disk.id, holder_of(self._record), place.node, place.id_base)
        # Another daemon may have ended the attempt and cleaned up before the volume was attached. It did not see this
        # attachment, so no later task would remove it.
        if self._is_over() and not self._ports.volumes.detach(disk.id, holder_of(self._record)):
            return "its volume is being detached again"
        self._guard.check(self._record)
        if attachment is None:
            return "its volume is being attached"
        self._home = BoxMount(target=HOME, handle=attachment.handle, is_new=not disk.made)
        return ""

    def _create(self, disk: Disk) -> bool:
        """Make the disk's volume; False: not yet.

        Its zone is recorded at once and not only when the box is ready: if this attempt fails or this process dies, the
        next attempt gets a node that can attach the volume. If it dies before the record is written, no record says
        where the volume is. The next attempt learns that here, perhaps on a node of another zone: then it records the
        zone and is placed again.

        Raises:
            PlaceTaken: the volume is in another zone than the attempt's node.
        """
        node = self._record.places[0].node
        volume = self._ports.volumes.create(disk.id, disk.size_bytes, node)
        if volume is None or not self._note_zone(disk, volume.zone):
            return False
        self._ports.volumes.label(label_of(replace(disk, zone=volume.zone), self._record.user))
        if volume.zone and any(one.name == node and one.zone != volume.zone for one in self._nodes):
            raise PlaceTaken(f"its volume is in zone {volume.zone}, and {node} is not")
        return True

    def _note_zone(self, disk: Disk, zone: str) -> bool:
        """Write the zone to the disk's record; False: another writer was first, so the record must be read again."""
        if zone == disk.zone:
            return True
        try:
            self._ports.store.commit(Change(disks=(replace(disk, zone=zone),)))
        except Conflict:
            return False
        return True

    def _take_from_unknown(self, disk: Disk) -> None:
        """Detach the volume from a holder without a record, if its box is gone.

        After a restore from an older backup a box may have a volume and no record. Once the operator has removed that
        box, no record asks for the detach.
        """
        holder = self._ports.volumes.list_attached().get(disk.id)
        if holder is None or self._ports.store.find_reservation(reservation_of(holder)) is not None:
            return
        if all(box.name.reservation_id != reservation_of(holder) for box in self._ports.cluster.list_boxes()):
            # If it is not through, attaching fails, and this is tried again.
            self._ports.volumes.detach(disk.id, holder)

    def _is_over(self) -> bool:
        """Whether the attempt has ended meanwhile."""
        now = self._ports.store.find_reservation(self._record.id)
        return now is not None and (now.attempt > self._record.attempt or not now.occupies)

    def _make_boxes(self) -> str:
        access = self._access
        if access is None:
            raise InvariantError(f"{self._record.id}: its keys come before its box")
        specs = specs_of(self._record, self._nodes, access, self._disk, self._home, self._policy)
        self._guard.check(self._record)
        self._made = [self._ports.cluster.create_box(spec) for spec in specs]
        # Also for a box that was there already: its files may be those of an earlier start.
        for spec in specs:
            self._ports.cluster.write_files(spec.name, spec.files)
        self._guard.check(self._record)
        # By uid: a box of the same name that somebody else made is not started.
        self._waiting = []
        for box in self._made:
            try:
                if self._ports.cluster.start_box(box.name, box.uid) is not None:
                    self._waiting.append(box)
            except PlaceTaken as error:
                if self._record.state is not State.PREPARING:
                    # Its owner knows its ports, and has files in it.
                    raise
                self._ports.cluster.end_box(box.name, box.uid, timedelta(0))
                return f"it is made again: {error.message}"
        self._silent = list(self._made)
        return ""

    def _wait_for_start(self, phase: StartPhase) -> str:
        """Ask the boxes that do not run yet to start; what they wait for in this phase, or nothing.

        The image is the last phase: there, a box that waits for a node again, as after it was evicted, is waited for
        too, since SSH cannot answer in it.
        """
        for box in list(self._waiting):
            self._guard.check(self._record)
            wait = self._ports.cluster.start_box(box.name, box.uid)
            if wait is None:
                self._waiting.remove(box)
            elif wait.phase is phase or phase is StartPhase.IMAGE:
                return wait.detail
        return ""

    def _ask_ssh(self) -> str:
        while self._silent:
            if not self._ports.cluster.ssh_answers(self._silent[0]):
                self._guard.check(self._record)
                return "the box runs, but no SSH server answers in it"
            del self._silent[0]
        return ""


def _with_box(place: Place, box: BoxSeen) -> Place:
    """The place with what the box got there."""
    return replace(
        place,
        uid=box.uid,
        gpus=place.gpus or box.gpus,
        address=box.address or place.address,
        ports=dict(box.ports),
    )


def find_disk(ports: Ports, record: Reservation) -> Disk | None:
    """Return the reservation's disk; None if its home is temporary.

    Raises:
        ProviderRefused: the disk has no record.
    """
    if record.disk_id is None:
        return None
    # By its id: an operator may have handed it to another owner since the record was read.
    disk = ports.store.find_disk(record.disk_id)
    if disk is None:
        raise ProviderRefused(f"disk {record.spec.disk} has no record any more")
    return disk


def find_host_key(ports: Ports, record: Reservation) -> str:
    """Return the private host key of the reservation's boxes.

    Raises:
        ProviderRefused: it has no record.
    """
    secrets = ports.store.find_secrets(record.id)
    if secrets is None:
        raise ProviderRefused("its host key has no record any more")
    return secrets.host_key


def specs_of(
    record: Reservation,
    nodes: tuple[Node, ...],
    access: BoxAccess,
    disk: Disk | None,
    home: BoxMount | None,
    policy: Policy,
) -> list[BoxSpec]:
    """Return the specifications of the attempt's boxes, in rank order.

    Args:
        record: placed.
        nodes: as seen now.
        access: the keys of the boxes' SSH servers.
        disk: the home; None for a temporary one.
        home: the attached volume; None for a temporary home.
        policy: the operator's.

    Raises:
        ProviderUnavailable: a node is not there.
    """
    by_name = {node.name: node for node in nodes}
    specs = []
    for rank, place in enumerate(record.places):
        node = by_name.get(place.node)
        if node is None:
            raise ProviderUnavailable(f"node {place.node} is not there")
        files = box_files(record, rank, node, access, disk, policy)
        specs.append(box_spec(record, rank, node, home, files, policy))
    return specs
