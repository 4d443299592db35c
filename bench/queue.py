"""A control plane with a long queue: 1,000 live reservations on 1,250 full nodes, and 10,000 queued behind them.

Run as a process of its own, `python -m bench.queue FOLDER`, it prints its figures as JSON. Records and passes are the
real ones, over SQLite and a cluster in memory. The records are written directly, as passes would have left them.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from bench.cloud import run
from bench.commands import bare_interpreter_mb
from bench.live import KEY, BenchedDaemon, nodes_for, read_once
from bench.measuring import cpu_milliseconds, memory_mb
from bench.plans import SIZES, UNITS
from bench.table import Row
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.sql.state_store import SqlStateStore
from odc.api.long_poll import WakeListener
from odc.control.context import Policy
from odc.control.pass_loop import IDLE_INTERVAL
from odc.domain.box import BoxName, BoxSpec
from odc.domain.node import Node
from odc.domain.promise import ready_by
from odc.domain.records import Change
from odc.domain.reservation import EndReason, Place, Reservation, Secrets, Spec, State
from odc.domain.resources import share_of
from odc.domain.user import User
from odc.entrypoints.bootstrap.run_cloud import prepare_interpreter

NODES, LIVE, QUEUED = 1250, 1000, 10_000
USERS = 100
BATCH = 90
"""Records of one transaction."""
TURNS = 5
QUIET_TRIES = 3
WATCHERS = 100
HOST_KEY = "ssh-ed25519 " + "A" * 68


def rows() -> list[Row]:
    """Whole passes: nothing has changed, one arrival, one early end; and what they cost in memory and wakes."""
    with tempfile.TemporaryDirectory(prefix="odc-bench-") as folder:
        seen = json.loads(run([sys.executable, "-m", "bench.queue", folder]))
    note = (
        f"processor time of whole passes with their commits, without waiting for the disk; {LIVE:,} live on {NODES:,} "
        "full nodes; boxes in memory; floor: the same records read from SQLite, not decoded"
    )
    floor = seen["floor"]
    return [
        Row(f"a pass with {QUEUED:,} queued, nothing changed", "ms", seen["quiet"], 150, floor=floor, note=note),
        Row("a pass after one arrival there", "ms", seen["arrival"], 60, floor=floor, note=note),
        Row("a pass after one early end there", "ms", seen["early_end"], 250, floor=floor, note=note),
        Row(
            "items of its largest transaction",
            "of 100",
            seen["items"],
            100,
            note="records, names and events, as the store counts them that takes the fewest",
        ),
        Row(
            f"daemon memory, {LIVE:,} live, {QUEUED:,} queued",
            "MB",
            seen["rss"],
            300,
            floor=bare_interpreter_mb(),
            note=f"resident; {seen['pss']:.0f} MB by proportional share; after all passes of this part",
        ),
        Row(
            f"woken of {WATCHERS} watchers, one early end",
            "watchers",
            seen["woken"],
            1,
            floor=seen["changed"],
            of_floor=True,
            note="floor: those whose reservation was written",
        ),
    ]


class WrittenStore(SqlStateStore):
    """Remembers what is written.

    Attributes:
        written: transactions.
        items: of the largest one since this was set to 0.
    """

    written = 0
    items = 0

    def commit(self, change: Change) -> None:
        """Write the change, and remember its size."""
        super().commit(change)
        self.written += 1
        self.items = max(self.items, change.items)


class LongQueue:
    """The daemon, and the history that its records have."""

    def __init__(self, folder: Path) -> None:
        """Write every record, and let passes tell nothing more."""
        self.nodes = nodes_for(NODES * UNITS)
        self.cluster = MemoryCluster(self.nodes)
        self.store = WrittenStore(f"sqlite:///{folder}/odc.db")
        self.daemon = BenchedDaemon(folder, self.nodes, self.cluster, self.store)
        self.dice = random.Random(1)
        self.now = datetime.now(UTC)
        users = [User(principal=f"unix:{2000 + n}", name=f"user{n}", own_keys=(KEY,)) for n in range(USERS)]
        for user in users:
            self.store.commit(Change(users=(user,)))
        self._write(list(self._live()))
        self._write([self.queued(number) for number in range(QUEUED)])
        self.daemon.plane.reconciler.reconcile_once()
        self._tell()
        self.drain()

    def _live(self) -> Iterator[Reservation]:
        """One of a node each, and gangs of two for what is left."""
        free = list(self.nodes)
        gangs = NODES - LIVE
        for number in range(LIVE):
            taken = [free.pop() for _ in range(2 if number < gangs else 1)]
            yield self._placed(number, taken)

    def _placed(self, number: int, nodes: Sequence[Node]) -> Reservation:
        spec = Spec(gpu_type="h100", gpus=UNITS, units=UNITS, nodes=len(nodes), hours=24, disk=None)
        record = self._record(f"live{number}", spec)
        places = tuple(
            Place(node=node.name, gpus=node.gpus, ports={"ssh": 30000 + number}, uid=self._box(record, rank, node))
            for rank, node in enumerate(nodes)
        )
        ends = self.now + timedelta(seconds=self.dice.randrange(3600, 86400))
        return replace(
            record, state=State.ACTIVE, attempt=1, places=places, active_at=self.now, expires_at=ends, ready_by=self.now
        )

    def _box(self, record: Reservation, rank: int, node: Node) -> str:
        """Put its box on the node; the box's uid."""
        spec = BoxSpec(
            name=BoxName(record.id, 1, rank),
            node=node.name,
            image="image",
            hostname="box",
            gpus=node.gpus,
            gpu_type=node.gpu_type,
            units=UNITS,
            resources=share_of(node.allocatable, UNITS, UNITS),
            files={},
        )
        return self.cluster.put_stranger(spec)

    def queued(self, number: int) -> Reservation:
        """One more request: one box or, one in twenty, a gang."""
        gang = self.dice.random() < 0.05
        units = UNITS if gang else self.dice.choice(SIZES)
        nodes = self.dice.randrange(2, 9) if gang else 1
        hours = self.dice.randrange(300, 86400) / 3600
        spec = Spec(gpu_type="h100", gpus=units, units=units, nodes=nodes, hours=hours, disk=None)
        return self._record(f"queued{number}", spec)

    def _record(self, name: str, spec: Spec) -> Reservation:
        owner = self.dice.randrange(USERS)
        return Reservation(
            id=uuid.uuid4().hex,
            owner=f"unix:{2000 + owner}",
            user=f"user{owner}",
            name=name,
            spec=spec,
            host_key=HOST_KEY,
            created_at=self.now,
        )

    def _write(self, records: Sequence[Reservation]) -> None:
        for first in range(0, len(records), BATCH):
            part = tuple(records[first : first + BATCH])
            secrets = tuple(Secrets(reservation_id=record.id, host_key="x" * 400) for record in part)
            self.store.commit(Change(reservations=part, secrets=secrets))

    def _tell(self) -> None:
        """Write what hundreds of passes would tell."""
        stored = self.store.observe()
        slots, limits = stored.plans["h100"].slots, Policy().limits
        queue = [record for record in stored.reservations if record.state is State.QUEUED]
        self._write([replace(record, ready_by=ready_by(slots[record.order].start, limits)) for record in queue])

    def pass_ms(self) -> float:
        """One pass, in ms of the processor."""
        return cpu_milliseconds(lambda: self.daemon.plane.reconciler.reconcile_once())

    def quiet_ms(self) -> float:
        """One pass that writes nothing, in ms of the processor. The check of the host, which goes by time, may fall
        into one, so there are some tries.

        Raises:
            SystemExit: each wrote something.
        """
        for _ in range(QUIET_TRIES):
            before = self.store.written
            took = self.pass_ms()
            if self.store.written == before:
                return took
        raise SystemExit("quiet passes wrote something")

    def drain(self) -> None:
        """Passes until one writes nothing and no task runs."""
        while self.daemon.plane.reconciler.reconcile_once().committed or self.daemon.runner.busy():
            self.daemon.wake.wait(IDLE_INTERVAL / 100)

    def arrive(self, number: int) -> None:
        """One more request."""
        self._write([self.queued(QUEUED + number)])

    def end_one(self) -> None:
        """One of the live reservations ends, and its boxes are gone."""
        stored = self.store.observe()
        record = self.dice.choice([r for r in stored.reservations if r.state is State.ACTIVE and r.spec.nodes == 1])
        for box in self.cluster.peek():
            if box.name.reservation_id == record.id:
                self.cluster.end_box(box.name, box.uid, timedelta(0))
        ended = replace(record, state=State.ENDED, ended_why=EndReason.CANCELLED, ended_at=self.now, boxes_gone=True)
        self.store.commit(Change(pools={"h100": stored.pools["h100"]}, reservations=(ended,)))


async def watch(queue: LongQueue) -> dict[str, int]:
    """One early end, watched by as many long polls: how many were woken, and how many had a change to hear of."""
    line = [record for record in queue.store.observe().reservations if record.state is State.QUEUED]
    versions = {record.id: record.version for record in line[:WATCHERS]}
    listener = WakeListener(queue.daemon.wake)
    await listener.open()
    with ExitStack() as stack:
        watchers = {key: stack.enter_context(listener.watch(key)) for key in versions}
        queue.end_one()
        queue.pass_ms()
        # The wake has been passed to this loop, which comes to it now.
        await asyncio.sleep(0.1)
        woken = {key for key, watcher in watchers.items() if watcher.is_set()}
    await listener.close()
    now = {record.id: record.version for record in queue.store.observe().reservations}
    changed = {key for key, version in versions.items() if now.get(key) != version}
    if not changed <= woken:
        raise SystemExit("a watcher slept through a change")
    return {"woken": len(woken), "changed": len(changed)}


def main(folder: Path) -> None:
    """Measure and print."""
    prepare_interpreter()
    queue = LongQueue(folder)
    database = folder / "odc.db"
    took: dict[str, list[float]] = {"floor": [], "quiet": [], "arrival": [], "early_end": []}
    for number in range(TURNS):
        took["floor"].append(cpu_milliseconds(lambda: read_once(database)))
        took["quiet"].append(queue.quiet_ms())
        queue.arrive(number)
        took["arrival"].append(queue.pass_ms())
        queue.drain()
    queue.store.items = 0
    for _ in range(TURNS):
        queue.end_one()
        took["early_end"].append(queue.pass_ms())
        queue.drain()
    figures = {name: statistics.median(each) for name, each in took.items()}
    woken = asyncio.run(watch(queue))
    print(json.dumps({**figures, **woken, **memory_mb(), "items": queue.store.items}))
    queue.daemon.runner.close()
    queue.store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
