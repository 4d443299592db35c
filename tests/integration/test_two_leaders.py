"""Two whole daemons over one PostgreSQL database and one cluster: users work, and the leadership changes all the time.

The daemons are processes with `run_cloud`. The cluster, the disks and the blobs are those of this process, so that it
can suspend, kill or delay the daemon that makes a certain call, in the middle of its passes and tasks. All clocks are
`SPEED` times as fast as the machine's. Rows 10, 13 and 47 of docs/survives.md.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from tests import leader_users
from tests.leader import NODES, USERS
from tests.leadership import Daemons, Leadership
from tests.postgres import private_postgres
from tests.shared_cloud import FastClock, shared
from tests.waiting import eventually
from tests.world import every_reservation
from tests.writers import writers

from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.memory.volumes import MemoryVolumes
from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.box import BoxState
from odc.domain.event_kind import EventKind
from odc.domain.paging import all_pages
from odc.domain.records import Subject
from odc.domain.reservation import EndReason, Reservation, State

pytestmark = pytest.mark.postgresql

NAMES = ("first", "second")
TAKEN = (
    ("create_box", "deposed"),
    ("attach", "suspended_before"),
    ("list_boxes", "suspended_after"),
    ("restart_box", "refused"),
    ("create_box", "overtaken"),
    ("end_box", "deposed"),
    ("snapshot", "killed_before"),
    ("create_box", "suspended_before"),
    ("ssh_answers", "suspended_after"),
    ("detach", "deposed"),
    ("start_box", "killed_after"),
    ("clean_up", "suspended_before"),
    ("list_nodes", "deposed"),
    ("attach", "overtaken"),
    ("restart_box", "refused"),
    ("start_box", "overtaken"),
    ("create_box", "killed_after"),
    ("start_box", "deposed"),
)
"""Where the leadership is taken from a daemon, and how: see `Leadership`."""
LIFE = re.compile(r"asked (cancelled|placed (ready )?(cancelled )?stopped (cancelled )?ended)")
"""The order in which a reservation goes through its states."""
STEPS = {
    EventKind.ASKED: "asked",
    EventKind.PLACED: "placed",
    EventKind.READY: "ready",
    EventKind.STOPPED: "stopped",
    EventKind.REQUEUED: "queued",
    EventKind.CANCELLED: "cancelled",
    EventKind.ENDED: "ended",
}


class Cloud:
    """What outlives the daemons, and what must be true of it at any time."""

    def __init__(self, store: SqlStateStore) -> None:
        self.store = store
        self.clock = FastClock()
        self.cluster = MemoryCluster(NODES)
        self.cluster.use_grace(self.clock)
        self.cluster.delay_ssh(3)
        self.blobs = MemoryBlobStore()
        self.volumes = MemoryVolumes(self.clock, self.blobs)
        self.lost: set[str] = set()
        """Reservations whose box was taken away by this test."""
        self.vanished: set[str] = set()
        """Those of them whose box is gone."""
        self._told: dict[str, datetime] = {}

    def check(self) -> None:
        """Compare the boxes with the records. The boxes are listed first: a record is there before its box."""
        boxes = self.cluster.peek()
        records = {record.id: record for record in self.store.observe().reservations}
        running = Counter(gpu for box in boxes if box.state is BoxState.RUNNING for gpu in box.gpus)
        assert max(running.values(), default=1) == 1, f"a GPU is in two boxes: {running}"
        places = [place for record in records.values() if record.occupies for place in record.places]
        held = Counter(gpu for place in places for gpu in place.gpus)
        assert max(held.values(), default=1) == 1, f"a GPU is given twice: {held}"
        for box in boxes:
            record = records.get(box.name.reservation_id) or self.store.find_reservation(box.name.reservation_id)
            assert record is not None, f"{box.name} has no record"
            assert box.name.attempt <= record.attempt, f"{box.name} is of an attempt that is in no record"
        for record in records.values():
            if record.ready_by is not None:
                before = self._told.setdefault(record.id, record.ready_by)
                assert record.ready_by <= before, f"the promise of {record.id} was broken"
                self._told[record.id] = record.ready_by

    def lose_a_box(self, dice: random.Random) -> None:
        """The processes of an active box end, or the box is taken away; each reservation only once."""
        records = [r for r in self.store.observe().reservations if r.state is State.ACTIVE and r.id not in self.lost]
        active = {record.id for record in records}
        names = [box.name for box in self.cluster.peek() if box.name.reservation_id in active]
        if not names:
            return
        name = dice.choice(names)
        self.lost.add(name.reservation_id)
        with contextlib.suppress(KeyError):
            if dice.random() < 0.3:
                self.cluster.vanish(name)
                self.vanished.add(name.reservation_id)
            else:
                self.cluster.exit_box(name, 137)


@contextmanager
def repeated(work: Callable[[], None], pause_s: float) -> Iterator[None]:
    """Do something again and again in a thread while the block lasts; raise what it raised."""
    stop, errors = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            while not stop.wait(pause_s):
                work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    for error in errors:
        raise error


@contextmanager
def people(folder: Path) -> Iterator[None]:
    """The users work while the block lasts; each of them did everything."""
    until = folder / "over"
    with writers(len(USERS)) as several:
        for uid, writer in zip(USERS, several, strict=True):
            writer.start(leader_users.work, uid, folder, NAMES, until)
        try:
            yield
        finally:
            until.touch()
        for writer in several:
            done = writer.answer()
            assert min(done["reserved"], done["cancelled"]) > 0, done


@pytest.fixture
def database() -> Iterator[str]:
    with private_postgres() as address:
        yield address


def test_two_daemons_that_take_the_lead_from_each_other_break_nothing(short_folder: Path, database: str) -> None:
    short_folder.chmod(0o755)
    store = SqlStateStore(database)
    cloud, daemons = Cloud(store), Daemons(short_folder, database)
    leadership = Leadership(store, cloud.cluster, daemons)
    adapters = {"cluster": cloud.cluster, "volumes": cloud.volumes, "blobs": cloud.blobs}
    try:
        with shared(short_folder / "shared", adapters, leadership), repeated(cloud.check, 0.03):
            for name in NAMES:
                daemons.start(name)
            for name in NAMES:
                daemons.wait_for(name)
            dice = random.Random(1)
            with people(short_folder), repeated(partial(cloud.lose_a_box, dice), 0.5):
                for method, how in TAKEN:
                    leadership.take_at(method, how)
            eventually("every reservation has ended", lambda: not store.observe().reservations)
            eventually("nothing of a box is left", lambda: not cloud.cluster.peek() and not cloud.cluster.leftovers())
            assert daemons.end() == [0, 0]
    finally:
        daemons.close()
    assert leadership.wrong_starts == []
    assert len(leadership.leaders) > len(NAMES)
    check_ends(cloud)
    check_logs(short_folder)
    store.close()


def check_ends(cloud: Cloud) -> None:
    """Every reservation went through its life in order, and nothing keeps a disk."""
    records = every_reservation(cloud.store)
    for record in records:
        check_story(record, cloud)
    ends = Counter(record.ended_why for record in records)
    assert min(ends[EndReason.EXPIRED], ends[EndReason.CANCELLED]) > 2
    assert cloud.volumes.list_attached() == {}
    for user in USERS.values():
        assert {disk.holder for disk in cloud.store.list_disks(user.id).items} == {None}


def check_story(record: Reservation, cloud: Cloud) -> None:
    events = [event.kind for event in all_pages(partial(cloud.store.list_events, Subject.reservation(record.id)))]
    story = " ".join(STEPS[kind] for kind in events if kind in STEPS)
    assert LIFE.fullmatch(story), (record.id, events)
    assert events.count(EventKind.PLACED) == record.attempt <= 1, (record.id, events)
    assert EventKind.POSTPONED not in events, (record.id, events)
    # Only a box that this test took away is a reason to fail.
    assert record.state is State.ENDED
    assert record.ended_why is not EndReason.FAILED or record.id in cloud.vanished, (record.id, record.end_text)


def check_logs(folder: Path) -> None:
    """No daemon met anything that it does not expect."""
    for name in NAMES:
        assert "Traceback" not in (folder / f"{name}.log").read_text()
