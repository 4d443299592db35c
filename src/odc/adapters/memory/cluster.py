"""Boxes in memory, with every rule of the real clusters and the faults of their bad days. No thread, no time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

from msgspec.structs import replace

from odc.adapters.memory.fault_injection import FaultInjector
from odc.domain.box import BOX_PORTS, BoxName, BoxSeen, BoxSpec, BoxState, MemoryKills, StartWait
from odc.domain.box_report import BoxReport, HomeState, ServerState
from odc.domain.errors import BoxGone, PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.host import HostReport
from odc.domain.node import Node
from odc.ports.clock import Clock

NEVER = 10**9
"""As a number of asks: SSH never answers."""


@dataclass(slots=True)
class _Box:
    """A box; `asks` counts how often its SSH was asked since it runs."""

    spec: BoxSpec
    uid: str
    state: BoxState = BoxState.CREATED
    exit_code: int | None = None
    message: str = ""
    asks: int = 0
    starts: int = 0
    ports: Mapping[str, int] = field(default_factory=dict)
    kills: int = 0
    ends_at: timedelta | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> BoxName:
        return self.spec.name


class MemoryCluster:
    """See `odc.ports.cluster`. `faults` makes any method fail; the methods at the end simulate accidents.

    Attributes:
        faults: errors that the next calls raise.
        collisions: boxes that were made with a GPU that another box held; must stay empty.
        host: what `check_host` reports, apart from the boxes and ports of the call.
        cut_off: box to the cause, for boxes that users cannot reach.
        strangers: ports at which other programs listen.
        identities: node to the GPUs that it gives to its boxes by itself, for nodes that only count them. They are
            known once a box is made.
        start_wait: what boxes wait for when they are started; None: they run at once.
        reports: the reports of boxes whose report is not the usual one; None: such a box reports nothing.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        images: Collection[str] | None = None,
        ports: tuple[int, int] = (30000, 31999),
    ) -> None:
        """Begin with these nodes and no box.

        Args:
            nodes: of the cluster.
            images: those that exist; None for every image that is asked for.
            ports: the first and the last port that boxes get, on all nodes together.
        """
        self._ports = range(ports[0], ports[1] + 1)
        self.faults = FaultInjector()
        self.collisions: list[str] = []
        self.host = HostReport()
        self.cut_off: dict[BoxName, str] = {}
        self.strangers: set[int] = set()
        self.identities: dict[str, tuple[str, ...]] = {}
        self.start_wait: StartWait | None = None
        self.reports: dict[BoxName, BoxReport | None] = {}
        self._lock = threading.RLock()
        self._nodes = {node.name: node for node in nodes}
        self._images = images
        self._boxes: dict[BoxName, _Box] = {}
        self._leftovers: set[BoxName] = set()
        self._down = ""
        self._slow_ends: Clock | None = None
        self._asks_needed: dict[BoxName | None, int] = {None: 0}

    def list_nodes(self) -> tuple[Node, ...]:
        """Every node by name."""
        with self.faults.around("list_nodes"), self._lock:
            self._check_up()
            full = "" if len(self._free_ports(len(BOX_PORTS))) == len(BOX_PORTS) else self._all_ports_used()
            return tuple(replace(node, full=full) for _, node in sorted(self._nodes.items()))

    def list_boxes(self) -> tuple[BoxSeen, ...]:
        """Every box by name; those of silent nodes are unreachable."""
        with self.faults.around("list_boxes"), self._lock:
            self._check_up()
            return self.peek()

    def list_remains(self) -> tuple[tuple[str, int], ...]:
        """Networks and files of boxes, by reservation and attempt."""
        with self.faults.around("list_remains"), self._lock:
            self._check_up()
            return tuple(sorted({(name.reservation_id, name.attempt) for name in self._leftovers}))

    def create_box(self, spec: BoxSpec) -> BoxSeen:
        """Make the box, with the first free ports."""
        with self.faults.around("create_box"), self._lock:
            self._check_node(spec.node)
            known = self._boxes.get(spec.name)
            if known is not None:
                return self._seen(known)
            if self._images is not None and spec.image not in self._images:
                raise ProviderRefused(f"the engine: {spec.image}: image not known")
            free = self._free_ports(len(spec.ports))
            if len(free) < len(spec.ports):
                raise PlaceTaken(self._all_ports_used())
            spec = replace(spec, gpus=spec.gpus or self._given_by_node(spec))
            self._note_collisions(spec)
            ports = self._kept_ports(spec) or dict(zip(spec.ports, free, strict=False))
            self._boxes[spec.name] = _Box(spec, uid=uuid.uuid4().hex, ports=ports, files=dict(spec.files))
            self._leftovers.add(spec.name)
            return self._seen(self._boxes[spec.name])

    def _given_by_node(self, spec: BoxSpec) -> tuple[str, ...]:
        held = {gpu for box in self._boxes.values() for gpu in box.spec.gpus}
        return tuple(gpu for gpu in self.identities.get(spec.node, ()) if gpu not in held)[: spec.units]

    def _free_ports(self, count: int) -> list[int]:
        """The first free ports; fewer than `count` if there are no more."""
        used = {port for box in self._boxes.values() for port in box.ports.values()} | self.strangers
        return list(islice((port for port in self._ports if port not in used), count))

    def _kept_ports(self, spec: BoxSpec) -> dict[str, int]:
        """The ports that an earlier box of this name had, if all are free; otherwise none."""
        used = {port for box in self._boxes.values() for port in box.ports.values()} | self.strangers
        are_free = spec.kept_ports.keys() == spec.ports.keys() and used.isdisjoint(spec.kept_ports.values())
        return dict(spec.kept_ports) if are_free else {}

    def _all_ports_used(self) -> str:
        others = len(self.strangers.intersection(self._ports))
        text = f"all ports from {self._ports[0]} to {self._ports[-1]} are in use"
        return f"{text}, {others} of them by other programs" if others else text

    def _note_collisions(self, spec: BoxSpec) -> None:
        for other in self._boxes.values():
            for gpu in set(other.spec.gpus) & set(spec.gpus):
                self.collisions.append(f"{gpu}: {other.name} and {spec.name}")

    def start_box(self, name: BoxName, uid: str) -> StartWait | None:
        """Start the box of this uid; while `start_wait` is set, it waits for that."""
        with self.faults.around("start_box"), self._lock:
            box = self._find(name, uid)
            if box is None:
                raise BoxGone(f"box {name} ({uid[:12]}) is not there")
            if box.state is BoxState.RUNNING:
                return None
            if self.start_wait is not None:
                return self.start_wait
            for port in box.ports.values():
                if port in self.strangers:
                    raise PlaceTaken(f"the engine: port {port}: address already in use")
            box.state, box.exit_code, box.message, box.asks = BoxState.RUNNING, None, "", 0
            box.starts, box.kills = box.starts + 1, 0
            return None

    def ssh_answers(self, box: BoxSeen) -> bool:
        """Whether its SSH answers, after as many asks as the test wants."""
        with self.faults.around("ssh_answers"), self._lock:
            self._check_node(box.node)
            known = self._boxes.get(box.name)
            if known is None:
                raise BoxGone(f"box {box.name} is not there any more")
            if known.state is BoxState.EXITED:
                raise ProviderRefused(f"the box ended with {known.exit_code}: {known.message}")
            known.asks += 1
            needed = self._asks_needed.get(box.name, self._asks_needed[None])
            return known.state is BoxState.RUNNING and known.asks > needed

    def write_files(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        """Replace the files that the box reads."""
        with self.faults.around("write_files"), self._lock:
            box = self._boxes.get(name)
            if box is not None:
                self._check_node(box.spec.node)
                box.files.update(files)
                self.host = replace(self.host, files_lost=self.host.files_lost - {box.uid})

    def end_box(self, name: BoxName, uid: str, grace: timedelta) -> bool:
        """Delete the box of exactly this uid; after `use_grace`, only once its grace is over."""
        with self.faults.around("end_box"), self._lock:
            box = self._find(name, uid)
            if box is None:
                return True
            if box.state is BoxState.RUNNING and self._slow_ends is not None:
                now = self._slow_ends.since_boot()
                box.ends_at = box.ends_at or now + grace
                if now < box.ends_at:
                    return False
            del self._boxes[name]
            return True

    def clean_up(self, reservation_id: str, attempt: int) -> None:
        """Delete the networks and files of the attempts up to this one."""
        with self.faults.around("clean_up"), self._lock:
            self._check_up()
            self._leftovers = {
                name for name in self._leftovers if name.reservation_id != reservation_id or name.attempt > attempt
            }

    def check_host(self, boxes: Sequence[BoxSeen]) -> HostReport:
        """Return the report that the test has set for the host and these boxes."""
        with self.faults.around("check_host"), self._lock:
            lost = {box.uid: self.cut_off[box.name] for box in boxes if box.name in self.cut_off}
            return replace(
                self.host,
                reachable=frozenset(box.uid for box in boxes if box.uid not in lost),
                unreachable=lost,
            )

    def _check_up(self) -> None:
        if self._down:
            raise ProviderUnavailable(self._down)

    def _check_node(self, node: str) -> None:
        self._check_up()
        if node not in self._nodes:
            raise ProviderRefused(f"there is no node {node}")
        if not self._nodes[node].ready:
            raise ProviderUnavailable(f"node {node} does not answer")

    def _find(self, name: BoxName, uid: str) -> _Box | None:
        """The box of this name and uid, on a node that answers."""
        self._check_up()
        box = self._boxes.get(name)
        if box is None or box.uid != uid:
            return None
        self._check_node(box.spec.node)
        return box

    def _seen(self, box: _Box) -> BoxSeen:
        silent = box.spec.node not in self._nodes or not self._nodes[box.spec.node].ready
        return BoxSeen(
            name=box.name,
            uid=box.uid,
            container=f"box-{box.name}",
            delete_command=f"delete box-{box.name}",
            node=box.spec.node,
            gpu_type=box.spec.gpu_type,
            gpus=box.spec.gpus,
            units=box.spec.units,
            state=BoxState.UNREACHABLE if silent else box.state,
            exit_code=None if silent else box.exit_code,
            message="its node does not answer" if silent else box.message,
            address=self._nodes[box.spec.node].address if box.spec.node in self._nodes else "",
            ports=box.ports,
            id_base=box.spec.id_base,
            memory_kills=MemoryKills(life=str(box.starts), count=box.kills, command="python"),
            report=self._report(box) if box.state is BoxState.RUNNING and not silent else None,
        )

    def _report(self, box: _Box) -> BoxReport | None:
        keys = len(box.files.get("authorized_keys", b"").splitlines())
        usual = BoxReport(sshd=ServerState.RUNNING, home=HomeState.READY, keys=keys, memory_kills=box.kills)
        return self.reports.get(box.name, usual)

    def go_down(self, why: str = "the cluster does not answer") -> None:
        """From now on every call fails."""
        self._down = why

    def heal(self) -> None:
        """Undo `go_down`, `silence`, `delay_ssh`, `start_wait` and `faults`; lost boxes stay lost."""
        with self._lock:
            self._down = ""
            self.faults.clear()
            self._asks_needed = {None: 0}
            self.start_wait = None
            self._nodes = {name: replace(node, ready=True) for name, node in self._nodes.items()}

    def vanish(self, name: BoxName) -> None:
        """The box is gone, as when someone deleted it by hand; its network and files stay."""
        with self._lock:
            del self._boxes[name]

    def change_ports(self, name: BoxName, ports: Mapping[str, int]) -> None:
        """The box is reached at other ports now, as when something else has taken them."""
        with self._lock:
            self._boxes[name].ports = ports

    def exit_box(self, name: BoxName, code: int, message: str = "") -> None:
        """The box's first process ends.

        Args:
            name: which box.
            code: its exit code.
            message: its exit message.
        """
        with self._lock:
            box = self._boxes[name]
            box.state, box.exit_code, box.message = BoxState.EXITED, code, message

    def kill_for_memory(self, name: BoxName, count: int = 1) -> None:
        """The kernel kills processes of the box because it is out of memory; the box keeps running."""
        with self._lock:
            self._boxes[name].kills += count

    def delay_ssh(self, asks: int, name: BoxName | None = None) -> None:
        """SSH answers only after it was asked so often.

        Args:
            asks: how often it stays silent; `NEVER` for always.
            name: of one box; None for all that have no delay of their own.
        """
        with self._lock:
            self._asks_needed[name] = asks

    def use_grace(self, clock: Clock) -> None:
        """From now on the processes of running boxes take the whole grace to end."""
        self._slow_ends = clock

    def ending(self) -> int:
        """Return how many boxes were asked to end and still run."""
        with self._lock:
            return sum(box.ends_at is not None for box in self._boxes.values())

    def silence(self, node: str) -> None:
        """The node does not answer any more."""
        with self._lock:
            self._nodes[node] = replace(self._nodes[node], ready=False)

    def put_node(self, node: Node) -> None:
        """Add a node, or change one: cordon it, give it back."""
        with self._lock:
            self._nodes[node.name] = node

    def take_node(self, name: str) -> None:
        """The node is in no list any more, as after it was renamed."""
        with self._lock:
            del self._nodes[name]

    def put_stranger(
        self, spec: BoxSpec, state: BoxState = BoxState.RUNNING, ports: Mapping[str, int] | None = None
    ) -> str:
        """Add a box of this cloud without a record, as after an old backup was restored; return its uid."""
        with self._lock:
            self._boxes[spec.name] = _Box(spec, uid=uuid.uuid4().hex, state=state, ports=ports or {})
            return self._boxes[spec.name].uid

    def read_files(self, name: BoxName) -> Mapping[str, bytes]:
        """Return the files that the box reads now; key: path below `/run/odc`."""
        with self._lock:
            return dict(self._boxes[name].files)

    def peek(self) -> tuple[BoxSeen, ...]:
        """Return every box by name in its actual state, even while the cluster does not answer."""
        with self._lock:
            return tuple(self._seen(box) for box in sorted(self._boxes.values(), key=lambda box: box.name))

    def leftovers(self) -> frozenset[BoxName]:
        """Boxes whose network and files are still there."""
        with self._lock:
            return frozenset(self._leftovers)
