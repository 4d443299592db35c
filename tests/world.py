"""A control plane on memory adapters and a virtual clock: nothing happens until a test lets it happen.

The store, the cluster, the volumes and the blobs are the outside: they outlive a `crash`. All else is built anew.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from tests.builders import KEY as SSH_KEY
from tests.builders import a_node
from tests.cold_world import BUDGET, COLD, LAGS, Crowded, Lagging

from odc.adapters.memory.accounts import MemoryAccounts
from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.clock import VirtualClock
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.memory.key_source import MemoryKeySource
from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.memory.volumes import MemoryVolumes
from odc.adapters.system.wake import LocalWake
from odc.control import host_monitor, record_pruning, storage_maintenance
from odc.control.context import Policy, Ports
from odc.control.control_plane import ControlPlane
from odc.control.lease import PassLease
from odc.control.queries import Queries
from odc.control.reconcile import PassReport
from odc.control.request_handlers import Answer
from odc.control.status_records import StatusRecords
from odc.control.task_runner import Call, InlineRunner, Runner, TaskId
from odc.control.tasks import Tasks
from odc.domain.access import Principal
from odc.domain.box import BoxSeen, BoxSpec, BoxState
from odc.domain.disk import Disk, Snapshot
from odc.domain.node import Node
from odc.domain.paging import all_pages
from odc.domain.records import MAX_ITEMS, AuditEvent, Subject
from odc.domain.requests import AcceptClock, Cancel, Request, Reserve, SetOwnKeys
from odc.domain.reservation import HostKey, Reservation
from odc.domain.resources import share_of
from odc.ports.audit_log import AuditLog
from odc.ports.history import History

ADA = Principal(id="unix:1000", user="ada")
BEN = Principal(id="unix:1001", user="ben")
OPERATOR = Principal(id="unix:0", user="root", admin=True)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
OUTSIDE = ("store", "cluster", "volumes", "blobs")


def spec_of(box: BoxSeen) -> BoxSpec:
    """What a box was made of, to put one like it there behind the control plane's back."""
    share = share_of(a_node().allocatable, 1, 8)
    return BoxSpec(
        name=box.name,
        node=box.node,
        image="image",
        hostname="box",
        gpus=box.gpus,
        gpu_type=box.gpu_type,
        units=box.units,
        resources=share,
        files={},
    )


def every_reservation(history: History, owner: str | None = None) -> list[Reservation]:
    """The owner's reservations, live and ended; with None everyone's. Newest place in line first."""
    found = [*all_pages(partial(history.list_live, owner)), *all_pages(partial(history.list_ended, owner))]
    return sorted(found, key=lambda record: -record.order)


class GivenHostKeys:
    """Host keys without a program: nobody connects here."""

    def make(self) -> HostKey:
        return HostKey(private="private\n", public="ssh-ed25519 AAAA odc")


class CountingRunner(InlineRunner):
    """Runs tasks at once and remembers which; what goes by time is not counted."""

    def __init__(self, started: list[str]) -> None:
        """Remember the names of the tasks in this list."""
        super().__init__()
        self.started = started

    def start(self, key: str, task: TaskId, call: Call) -> None:
        if key not in (storage_maintenance.TASK_KEY, record_pruning.TASK_KEY, host_monitor.TASK_KEY):
            self.started.append(task.name)
        super().start(key, task, call)


class Wrapper(Protocol):
    """Puts something around an adapter; `port` is its name in `Ports`."""

    def __call__(self, port: str, adapter: Any) -> Any: ...


def bare(port: str, adapter: Any) -> Any:
    """Nothing around it."""
    return adapter


class Fuse:
    """Counts the calls of the adapters, as a wrapper of `World.build`, and does something at one of them."""

    def __init__(
        self, number: int, after: bool, blow: Callable[[], None], ports: tuple[str, ...] = OUTSIDE, method: str = ""
    ) -> None:
        """Blow at a call.

        Args:
            number: at which, from 1.
            after: right after it and not right before.
            blow: what happens then; what it raises, the call raises.
            ports: whose calls count.
            method: only calls of this name count; empty for all.
        """
        self.left, self.after, self.blow = number, after, blow
        self.ports, self.method = ports, method
        self.where = ""

    def __call__(self, port: str, adapter: Any) -> Any:
        return Fused(port, adapter, self) if port in self.ports else adapter

    @property
    def blown(self) -> bool:
        return self.where != ""

    def burn(self, where: str, call: Call) -> object:
        self.left -= 1
        if self.left != 0:
            return call()
        self.where = f"{'after' if self.after else 'before'} {where}"
        if not self.after:
            self.blow()
        value = call()
        if self.after:
            self.blow()
        return value


class Fused:
    """An adapter whose calls burn a fuse."""

    def __init__(self, port: str, adapter: Any, fuse: Fuse) -> None:
        self._port, self._adapter, self._fuse = port, adapter, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        if self._fuse.method not in ("", name):
            return found

        def call(*arguments: Any, **options: Any) -> object:
            return self._fuse.burn(f"{self._port}.{name}", lambda: found(*arguments, **options))

        return call


class World:
    """A cloud of one machine with 8 GPUs, unless the test says otherwise, with ada and ben, who have keys."""

    audit_log: AuditLog | None = None
    """A test may set one, before it builds a new process."""

    def __init__(
        self,
        nodes: Iterable[Node] = (),
        store: Any = None,
        images: tuple[str, ...] | None = None,
        ports: tuple[int, int] = (30000, 31999),
        clock: VirtualClock | None = None,
        **policy: Any,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.store = store or MemoryStateStore(MAX_ITEMS)
        self.cluster = MemoryCluster(tuple(nodes) or (a_node("node-1"),), images, ports)
        self.blobs = MemoryBlobStore()
        self.volumes = MemoryVolumes(self.clock, self.blobs)
        self.keys = MemoryKeySource()
        self.accounts = MemoryAccounts({1000: "ada", 1001: "ben"})
        self.listed: list[tuple[BoxSeen, ...]] = []
        self.policy = Policy(**policy)
        self.build()
        for who in (ADA, BEN):
            self.send(SetOwnKeys(keys=(SSH_KEY,)), who)
        self.pass_once()

    @classmethod
    def beside(cls, other: World) -> World:
        """Another process over the same outside, which has looked around once."""
        made = cls.__new__(cls)
        made.clock, made.policy = other.clock, other.policy
        made.store, made.cluster, made.volumes = other.store, other.cluster, other.volumes
        made.blobs, made.keys, made.accounts = other.blobs, other.keys, other.accounts
        made.listed = other.listed
        made.build()
        return made

    def build(self, wrap: Wrapper = bare, runner: Runner | None = None) -> None:
        """A new process: nothing of the old one's memory is left."""
        wake, store = LocalWake(), wrap("store", self.store)
        self.ports = Ports(
            store=store,
            documents=store,
            history=store,
            leases=store,
            pruning=store,
            space=store,
            wake=wake,
            cluster=wrap("cluster", self.cluster),
            volumes=wrap("volumes", self.volumes),
            blobs=wrap("blobs", self.blobs),
            keys=wrap("keys", self.keys),
            host_keys=GivenHostKeys(),
            clock=self.clock,
            accounts=self.accounts,
            audit_log=wrap("audit_log", self.audit_log) if self.audit_log else None,
        )
        self.started: list[str] = []
        self.cold = COLD.get() and runner is None
        self.lags = LAGS.get() and self.cold
        self._plane = self._process(runner)

    def _process(self, runner: Runner | None = None) -> ControlPlane:
        ports = self.ports
        if self.lags:
            crowded = Crowded(ports.history, self.store)
            ports = replace(ports, cluster=Lagging(ports.cluster, self.listed), history=crowded)
        return ControlPlane(ports, self.policy, runner or CountingRunner(self.started))

    @property
    def plane(self) -> ControlPlane:
        """The process that does what comes next: in a cold world another one each time."""
        return self._process() if self.cold else self._plane

    @property
    def status(self) -> StatusRecords:
        """The status, as a process reads it."""
        return self.plane.status

    @property
    def queries(self) -> Queries:
        """The queries of a process."""
        return self.plane.queries

    def crash(self) -> None:
        """`kill -9` and start again."""
        self.build()

    def with_policy(self, **changes: Any) -> None:
        """Start again with other settings."""
        self.policy = replace(self.policy, **changes)
        self.build()

    def send(self, request: Request, who: Principal = ADA, request_id: str | None = None) -> Answer:
        return self.plane.requests.handle(who, request_id or uuid.uuid4().hex, request)

    def ask(self, who: Principal = ADA, *, request_id: str | None = None, **fields: Any) -> Reservation:
        """Ask for a reservation, without a pass."""
        wanted = Reserve(**{"gpu_type": "h100", "gpus": 1, "hours": 1.0, "disk": "none", "new_disk": True, **fields})
        answer = self.send(wanted, who, request_id)
        assert isinstance(answer, Reservation)
        return answer

    def reserve(self, who: Principal = ADA, **fields: Any) -> Reservation:
        """Ask for a reservation and let the passes come to rest; the record then."""
        record = self.ask(who, **fields)
        self.settle()
        return self.get(record)

    def cancel(self, record: Reservation, who: Principal = ADA) -> None:
        self.send(Cancel(reservation=record.id), who)

    def accept_clock(self) -> None:
        self.send(AcceptClock(), OPERATOR)

    def pass_once(self) -> PassReport:
        """A pass. Where lists lag it is two, so that the second one sees what was there before both."""
        report = self._pass()
        if self.lags:
            second = self._pass()
            report = replace(second, committed=report.committed + second.committed, lost=report.lost + second.lost)
        self.check()
        return report

    def _pass(self) -> PassReport:
        reconciler = self.plane.reconciler
        return reconciler.reconcile_with_tasks(BUDGET) if self.cold else reconciler.reconcile_once()

    def settle(self, most: int = 30) -> None:
        """Passes until one writes nothing and starts nothing; that it comes to that is a rule too."""
        for _ in range(most):
            before = len(self.started)
            report = self.pass_once()
            rung = self.ports.wake.wait(timedelta(0))
            # In a cold world each process starts the tasks that wait for something.
            quiet = self.cold or len(self.started) == before
            if not rung and not report.committed and not report.lost and quiet:
                return
        raise AssertionError(f"still at work after {most} passes at one moment: {self.started[-5:]}")

    def pass_time(self, length: timedelta, step: timedelta = timedelta(seconds=5)) -> None:
        """Let time pass, with passes that come to rest after each step."""
        end = self.clock.since_boot() + length
        while self.clock.since_boot() < end:
            self.clock.advance(min(step, end - self.clock.since_boot()))
            self.settle()

    def pass_until(self, true: Callable[[], bool], most: timedelta = HOUR) -> None:
        """Let time pass in steps of five seconds until something is true."""
        end = self.clock.since_boot() + most
        self.settle()
        while not true():
            assert self.clock.since_boot() < end, f"not true within {most}"
            self.pass_time(timedelta(seconds=5))

    def get(self, record: Reservation) -> Reservation:
        found = self.store.find_reservation(record.id)
        assert found is not None
        return found

    def all(self) -> list[Reservation]:
        """Every reservation that there ever was, by place in line."""
        return sorted(every_reservation(self.store), key=lambda record: record.order)

    def disk(self, name: str, who: Principal = ADA) -> Disk:
        mine: tuple[Disk, ...] = self.store.list_disks(who.id).items
        return next(disk for disk in mine if disk.name == name)

    def snapshots(self, disk: Disk) -> tuple[Snapshot, ...]:
        """The disk's snapshots that are not being deleted, oldest first."""
        records = all_pages(partial(self.store.list_snapshots, disk.id))
        return tuple(record.snapshot for record in records if not record.deleting)

    def story(self, record: Reservation) -> list[str]:
        """The kinds of what happened to it, in order."""
        return [event.kind for event in self.events(record)]

    def events(self, record: Reservation) -> tuple[AuditEvent, ...]:
        return tuple(all_pages(partial(self.store.list_events, Subject.reservation(record.id))))

    def boxes_of(self, record: Reservation) -> list[str]:
        return [str(box.name) for box in self.cluster.peek() if box.name.reservation_id == record.id]

    def check(self) -> None:
        """What holds after every pass, whatever a test does."""
        assert self.cluster.collisions == []
        running = [box.name.reservation_id for box in self.cluster.peek() if box.state is BoxState.RUNNING]
        assert len(running) == len(set(running)), "two boxes of one reservation run"
        held = [
            (place.node, gpu)
            for record in self.store.observe().reservations
            if record.occupies
            for place in record.places
            for gpu in place.gpus
        ]
        assert len(held) == len(set(held)), "a GPU is given twice"


def tasks_of(world: World) -> Tasks:
    """The tasks of a process that has not seen anything yet."""
    return Tasks(world.ports, world.policy, PassLease(world.ports.leases, world.ports.clock))
