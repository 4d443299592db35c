"""What writers do to a store: each function runs in a process of its own (see `tests.writers`)."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace
from tests.builders import KEY, a_disk, a_request, a_reservation, an_event
from tests.dynamodb import new_table
from tests.world import ADA, BEN, World
from tests.writers import Say, dies_at

from odc.adapters.dynamodb.state_store import DynamoStateStore
from odc.adapters.memory.clock import VirtualClock
from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.access import Principal
from odc.domain.errors import Conflict, OdcError
from odc.domain.records import Change, ClockAnchor, Subject
from odc.domain.requests import SetOwnKeys
from odc.domain.reservation import EndReason, Reservation, State

Store = SqlStateStore | DynamoStateStore
DYNAMODB = "dynamodb+"


def open_store(address: str) -> Store:
    """The store at an address of SQLAlchemy, or at `dynamodb+http://HOST:PORT/TABLE`."""
    if not address.startswith(DYNAMODB):
        return SqlStateStore(address)
    server, _, table = address.removeprefix(DYNAMODB).rpartition("/")
    return new_table(server, table)


@contextmanager
def opened(address: str) -> Iterator[Store]:
    """The store, for as long as the block lasts."""
    store = open_store(address)
    try:
        yield store
    finally:
        store.close()


def whole_change(reservation_id: str) -> Change:
    """A change of every kind of record, all of them named after the reservation."""
    return Change(
        pools={reservation_id: 0},
        reservations=(a_reservation(id=reservation_id, name=reservation_id),),
        disks=(a_disk(id=reservation_id, name=reservation_id),),
        events=(an_event(reservation_id),),
        request=a_request(id=reservation_id),
    )


def traces_of(store: Store, reservation_id: str) -> tuple[bool, ...]:
    """Of which kinds of record in `whole_change` the store holds the one of this name."""
    return (
        reservation_id in store.observe().pools,
        store.find_reservation(reservation_id) is not None,
        any(disk.id == reservation_id for disk in store.list_disks("unix:1000").items),
        bool(store.list_events(Subject.reservation(reservation_id)).items),
        store.find_request(reservation_id) is not None,
    )


def open_and_close(_say: Say, address: str) -> int:
    """Open the store, as the first one perhaps; how many live reservations it has."""
    with opened(address) as store:
        return len(store.observe().reservations)


def count_up(_say: Say, address: str, reservation_id: str, times: int) -> int:
    """Raise a record's counter so often, reading again after each lost race; the lost races."""
    lost = 0
    with opened(address) as store:
        for _ in range(times):
            while True:
                record = store.find_reservation(reservation_id)
                assert record is not None
                try:
                    store.commit(Change(reservations=(replace(record, attempt=record.attempt + 1),)))
                    break
                except Conflict:
                    lost += 1
    return lost


def commit_until_killed(say: Say, address: str) -> None:
    """Commit one whole change after the other, and say each that was acknowledged."""
    with opened(address) as store:
        while True:
            reservation_id = uuid.uuid4().hex
            store.commit(whole_change(reservation_id))
            say(reservation_id)


def die_at_every_statement(_say: Say, address: str) -> list[str]:
    """One commit after the other, each in a process that kills itself: before its 1st statement, its 2nd and so on,
    then before the commit, then right after it; the ids."""
    ids: list[str] = []
    while True:
        reservation_id = uuid.uuid4().hex
        if not dies_at(partial(_commit_and_die, address, reservation_id, len(ids) + 1)):
            return ids
        ids.append(reservation_id)


def _commit_and_die(address: str, reservation_id: str, number: int) -> None:
    left = number

    def count(*_: Any, **__: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    store = open_store(address)
    if isinstance(store, DynamoStateStore):
        store._table.client.meta.events.register("before-send.dynamodb", count)
    else:
        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        sa.event.listen(sa.Engine, "commit", count)
    store.commit(whole_change(reservation_id))
    count()


def ask_and_pass(_say: Say, address: str, uid: int, rounds: int, gpus: int) -> int:
    """A daemon's whole control plane: ask for one reservation after the other with passes between; its lost races."""
    caller = _caller(uid)
    lost = 0
    with opened(address) as store:
        world = _world(store, caller)
        for number in range(rounds):
            world.ask(caller, gpus=gpus, name=f"n{number}")
            lost += world.plane.reconciler.reconcile_once().lost
    return lost


def ask(_say: Say, address: str, uid: int, request_ids: list[str], fields: dict[str, Any]) -> list[str]:
    """Send the same request under each id; the reservation's id, or the error's class and message."""
    caller = _caller(uid)
    answers = []
    with opened(address) as store:
        world = _world(store, caller)
        for request_id in request_ids:
            try:
                answers.append(world.ask(caller, request_id=request_id, **fields).id)
            except OdcError as error:
                answers.append(f"{type(error).__name__}: {error.message}")
    return answers


class PausingClock(VirtualClock):
    """Its pauses are real: other processes write meanwhile."""

    def pause(self, length: timedelta) -> None:
        time.sleep(length.total_seconds())


def _caller(uid: int) -> Principal:
    """The user of this uid; those of the control plane's own users have their logins."""
    return next(
        (user for user in (ADA, BEN) if user.id == f"unix:{uid}"), Principal(id=f"unix:{uid}", user=f"user{uid}")
    )


def _world(store: Store, caller: Principal) -> World:
    """A control plane over the store; the cluster is this process's own, so that only the records are shared."""
    world = World(store=store, clock=PausingClock())
    world.send(SetOwnKeys(keys=(KEY,)), caller)
    return world


def contend(_say: Say, address: str, holder: str, for_s: float, length_s: float) -> list[datetime]:
    """Try for the lease again and again, and let it lapse each time; the moments at which it was had."""
    length = timedelta(seconds=length_s)
    had = []
    with opened(address) as store:
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            now = datetime.now(UTC)
            if store.acquire_lease("passes", holder, now, length):
                had.append(now)
                time.sleep(length_s * 1.1)
            time.sleep(0.002)
    return had


def hold_lease(say: Say, address: str, length_s: float) -> None:
    """Take the lease, say so, and renew it until killed."""
    with opened(address) as store:
        while True:
            now = datetime.now(UTC)
            if store.acquire_lease("passes", "first", now, timedelta(seconds=length_s)):
                say(now)
            time.sleep(length_s / 10)


def swap_anchors(_say: Say, address: str, times: int) -> int:
    """Put another anchor in place so often; how often there was none before."""
    missing = 0
    with opened(address) as store:
        for number in range(times):
            anchor = ClockAnchor(boot_id=f"{os.getpid()}-{number}", wall=datetime.now(UTC), since_boot=timedelta())
            missing += store.swap_clock_anchor(anchor) is None
    return missing


def rename_crosswise(_say: Say, address: str, names: list[str], times: int) -> int:
    """Make two live reservations whose names another process makes in the other order, and end them; lost races."""
    lost = 0
    with opened(address) as store:
        for _ in range(times):
            pair = [a_reservation(name=name) for name in names]
            pair = [replace(record, id=f"{place}{record.id[1:]}") for place, record in enumerate(pair)]
            try:
                store.commit(Change(reservations=tuple(pair)))
            except Conflict:
                lost += 1
                continue
            store.commit(Change(reservations=tuple(map(_ended, map(store.find_reservation, (r.id for r in pair))))))
    return lost


def _ended(record: Reservation | None) -> Reservation:
    assert record is not None
    return replace(record, state=State.ENDED, ended_why=EndReason.CANCELLED)
