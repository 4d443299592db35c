"""The status of the cluster is in the store: every process reads the same, and a quiet pass writes nothing."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from tests.builders import a_node
from tests.world import HOUR, MINUTE, OPERATOR, SECOND, Fuse, World, spec_of

from odc.adapters.memory.state_store import MemoryStateStore
from odc.control.context import ClusterStatus, StorageStatus
from odc.control.lease import PassLease
from odc.control.pass_loop import PassLoop
from odc.control.status_records import StatusRecords
from odc.control.stored_documents import StoredDocuments
from odc.control.sweeps import RETRY, Sweeps
from odc.domain.box import BoxName
from odc.domain.document import MAX_BODY, Document
from odc.domain.errors import ProviderUnavailable
from odc.domain.problem import ProblemKind
from odc.domain.records import MAX_ITEMS, Change, ClockAnchor
from odc.domain.requests import AcceptClock
from odc.domain.reservation import State
from odc.domain.status_documents import NODES, HostRecord, from_parts
from odc.domain.storage import DiskUse, StorageUse


class Recording(MemoryStateStore):
    """Keeps what was written, and takes no more at once than the store that takes the fewest."""

    def __init__(self) -> None:
        super().__init__(most_items=MAX_ITEMS)
        self.changes: list[Change] = []
        self.writes: Counter[str] = Counter()

    def commit(self, change: Change) -> None:
        super().commit(change)
        self.changes.append(change)
        self.writes["commit"] += 1

    def acquire_lease(self, name: str, holder: str, now: datetime, length: timedelta) -> bool:
        granted = super().acquire_lease(name, holder, now, length)
        self.writes[f"lease {name}"] += granted
        return granted

    def expire_lease(self, name: str) -> None:
        self.writes[f"end of lease {name}"] += 1
        super().expire_lease(name)

    def swap_clock_anchor(self, anchor: ClockAnchor | None) -> ClockAnchor | None:
        self.writes["clock anchor"] += anchor is not None
        return super().swap_clock_anchor(anchor)

    def documents(self) -> list[str]:
        """The names of the documents that were written since the last call."""
        changes, self.changes = self.changes, []
        return [document.name for change in changes for document in change.documents]


def recorded() -> tuple[World, Recording, StatusRecords]:
    """A world, its store, and the status as another process reads and writes it."""
    store = Recording()
    world = World(store=store)
    return world, store, World.beside(world).status


def test_a_process_that_runs_no_pass_sees_what_the_last_pass_has_seen() -> None:
    world, _, other = recorded()
    world.reserve(disk="proj")
    stranger = replace(spec_of(world.cluster.peek()[0]), name=BoxName("f" * 32, 1), gpus=())
    world.cluster.put_stranger(stranger)
    world.pass_time(MINUTE)
    assert other.current == world.status.current
    assert [problem.kind for problem in other.current.problems] == [ProblemKind.BOX_QUARANTINED]
    assert other.current.storage.use is not None
    assert [box.node for box in other.current.boxes] == ["node-1", "node-1"]


def test_a_process_that_runs_no_pass_takes_requests() -> None:
    world = World()
    other = World.beside(world)
    record = other.ask()
    world.settle()
    assert other.get(record).state is State.ACTIVE


def test_quiet_passes_write_nothing_however_long_they_go_on() -> None:
    world, store, _ = recorded()
    world.reserve(hours=8.0, disk="proj")
    world.pass_time(MINUTE)
    store.documents()
    world.pass_time(HOUR, step=MINUTE)
    assert store.documents() == []
    assert store.changes == []


def test_an_idle_daemon_writes_its_lease_four_times_a_minute_and_hardly_anything_else() -> None:
    world, store, _ = recorded()
    world.reserve(hours=8.0, disk="proj")
    daemon = world.plane.pass_loop("this")
    run_for(daemon, world, 2 * MINUTE)
    store.writes.clear()
    run_for(daemon, world, HOUR)
    assert +store.writes == {"lease passes": 240, "clock anchor": 60, "lease pruning": 6, "lease leftovers": 6}


def run_for(daemon: PassLoop, world: World, length: timedelta) -> None:
    """Let it run its passes for so long."""
    end = world.clock.since_boot() + length
    while world.clock.since_boot() < end:
        world.clock.advance(daemon.run_once())


def test_a_node_that_falls_silent_is_written_once_with_the_time() -> None:
    world, store, _ = recorded()
    store.documents()
    since = world.clock.now() + MINUTE
    world.cluster.silence("node-1")
    world.pass_time(10 * MINUTE, step=MINUTE)
    (written,) = {name for name in store.documents() if name.startswith(NODES)}
    (found,) = store.find_documents([written])
    assert nodes_of(world)["node-1"] == (False, since)
    world.cluster.heal()
    world.pass_once()
    assert nodes_of(world)["node-1"] == (True, None)
    assert store.list_document_versions()[written] == found.version + 1


def nodes_of(world: World) -> dict[str, tuple[bool, object]]:
    """Whether each node is ready, and since when it is not."""
    records = from_parts(NODES, StoredDocuments(world.store, world.store).read())
    return {name: (record.node.ready, record.silent_since) for name, record in records.items()}


def test_a_node_that_is_gone_is_gone_for_every_process() -> None:
    world = World(nodes=[a_node("node-1"), a_node("node-2")])
    world.cluster.take_node("node-2")
    world.pass_once()
    assert [node.name for node in World.beside(world).status.current.nodes] == ["node-1"]


def a_status(free: int, live: int) -> ClusterStatus:
    disks = {"d" * 32: DiskUse(live_bytes=live, total_bytes=live)}
    use = StorageUse(total_bytes=10**12, free_bytes=free, disks=disks)
    return ClusterStatus(storage=StorageStatus(use=use))


@pytest.mark.parametrize(
    ("free", "live", "is_written"),
    [
        (5 * 10**11, 10**10, False),
        (5 * 10**11 + 10**9, 10**10 + 10**7, False),
        (5 * 10**11 + 10**10, 10**10, True),
        (5 * 10**11, 10**10 + 2 * 10**8, True),
    ],
)
def test_sizes_are_written_when_they_differ_by_a_percent_from_what_is_stored(
    free: int, live: int, is_written: bool
) -> None:
    _, store, status = recorded()
    status.stored()
    status.write(a_status(5 * 10**11, 10**10), HostRecord())
    store.documents()
    status.stored()
    status.write(a_status(free, live), HostRecord())
    assert bool(store.documents()) == is_written


def test_1250_nodes_are_few_items_of_a_size_that_every_store_takes() -> None:
    nodes = [replace(a_node(f"node-{n}"), gpus=tuple(f"GPU-{uuid.uuid4()}" for _ in range(8))) for n in range(1250)]
    store = Recording()
    World(nodes=nodes, store=store)
    sizes = [len(document.body) for change in store.changes for document in change.documents]
    assert len(sizes) < MAX_ITEMS / 2
    assert max(sizes) < MAX_BODY / 4


def test_a_document_of_a_newer_version_is_left_out_until_a_pass_writes_it_again() -> None:
    world, store, other = recorded()
    version = store.list_document_versions()["cloud"]
    store.commit(Change(documents=(Document(name="cloud", version=version, body=b"from the future"),)))
    assert other.current.at is None
    world.pass_once()
    assert other.current.at is not None


def test_a_status_that_cannot_be_stored_stops_no_pass() -> None:
    world, store, _ = recorded()
    record = world.reserve()

    class Refusing:
        def __getattr__(self, name: str) -> Callable[..., object]:
            return getattr(store, name)  # type: ignore[no-any-return]

        def commit(self, change: Change) -> None:
            if change.documents:
                raise ProviderUnavailable("the file system of the records is full")
            store.commit(change)

    world.build(lambda port, adapter: Refusing() if port == "store" else adapter)
    world.clock.advance(HOUR)
    world.cluster.silence("node-1")
    world.pass_once()
    assert world.get(record).state is State.ENDING


@pytest.mark.one_process("what a process knows of its own passes is not stored")
def test_a_process_whose_passes_fail_says_why_and_the_others_do_not_know() -> None:
    world, _, other = recorded()
    world.status.note_failure("the records are damaged")
    assert [problem.kind for problem in world.status.current.problems] == [ProblemKind.PASSES_FAIL]
    assert len(world.status.current.nodes) == 1
    assert other.current.problems == ()
    world.pass_once()
    assert world.status.current.problems == ()


def test_a_store_that_does_not_answer_is_an_error_and_not_an_empty_cloud() -> None:
    world = World()

    def fail() -> None:
        raise ProviderUnavailable("no answer")

    world.build(Fuse(1, False, fail, ("store",), "list_document_versions"))
    with pytest.raises(ProviderUnavailable):
        _ = world.status.current


def a_process(world: World) -> Sweeps:
    """The sweeps of a process that does not have the lease of passes."""
    return Sweeps(world.store, world.clock, PassLease(world.store, world.clock))


def test_a_sweep_is_done_by_one_process_in_each_interval_and_again_afterwards() -> None:
    world = World()
    one, other = (a_process(world) for _ in range(2))

    def takers() -> list[bool]:
        return [sweeps.take("pruning", 10 * MINUTE, world.clock.now()) for sweeps in (one, other)]

    world.store.expire_lease("pruning")
    assert takers() == [True, False]
    world.clock.advance(10 * MINUTE - SECOND)
    assert takers() == [False, False]
    world.clock.advance(RETRY)
    assert takers() == [True, False]
    other.ask("pruning", SECOND)
    assert other.asked_in("pruning") == SECOND
    world.clock.advance(SECOND)
    assert other.take("pruning", 10 * MINUTE, world.clock.now())
    assert other.asked_in("pruning") is None


def test_a_sweep_goes_by_each_process_alone_while_the_clock_cannot_be_trusted() -> None:
    world = World()
    one, other = (a_process(world) for _ in range(2))
    assert one.take("storage", MINUTE, None)
    assert other.take("storage", MINUTE, None)
    assert not one.take("storage", MINUTE, None)


def test_a_cold_start_does_not_sweep_again_and_a_process_that_lives_on_does() -> None:
    world = World()
    calls = Fuse(0, False, lambda: None, ("volumes",), "measure")
    world.build(calls)
    world.settle()
    assert calls.left == 0
    world.pass_time(timedelta(days=1), step=10 * MINUTE)
    assert calls.left <= -140


def test_a_clock_that_went_back_does_not_stop_the_sweeps_once_it_is_accepted() -> None:
    world = World()
    world.pass_time(MINUTE)
    world.clock.jump(-24 * HOUR)
    world.pass_once()
    world.send(AcceptClock(), OPERATOR)
    calls = Fuse(0, False, lambda: None, ("volumes",), "measure")
    world.build(calls)
    world.pass_once()
    assert calls.left == -1
