"""The contract of the state store, held by every adapter."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.builders import NOW, a_disk, a_request, a_reservation, a_secret, a_snapshot, a_user, an_event
from tests.records import Records
from tests.world import every_reservation

from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.errors import Conflict, ProviderRefused
from odc.domain.pool_document import PoolDocument
from odc.domain.records import Change, ClockAnchor, Handover, Subject, SubjectKind
from odc.domain.reservation import EndReason, Secrets, SlotRecord, State

OTHERS = (SubjectKind.DISK, SubjectKind.NODE, SubjectKind.USER)


def test_what_is_written_is_read_with_the_next_version_and_a_place_in_line(store: Records) -> None:
    first, second = a_reservation(), a_reservation()
    store.commit(Change(reservations=(first,)))
    store.commit(Change(reservations=(second,)))
    seen = store.observe().reservations
    assert [r.id for r in seen] == [first.id, second.id]
    assert [r.version for r in seen] == [1, 1]
    assert seen[0].order < seen[1].order
    assert store.find_reservation(first.id) == seen[0]


def test_an_old_version_writes_nothing_of_the_change(store: Records) -> None:
    record = a_reservation()
    store.commit(Change(reservations=(record,)))
    read = store.observe().reservations[0]
    store.commit(Change(reservations=(replace(read, attempt=1),)))
    other = a_reservation()
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(other, replace(read, attempt=7)), events=(an_event(record.id),)))
    assert store.find_reservation(other.id) is None
    assert store.list_events(Subject.reservation(record.id)).items == ()
    assert store.observe().reservations[0].attempt == 1


def test_a_pool_that_moved_on_refuses_the_whole_change(store: Records) -> None:
    store.commit(Change(pools={"h100": 0}))
    assert store.observe().pools == {"h100": 1}
    record = a_reservation()
    with pytest.raises(Conflict):
        store.commit(Change(pools={"h100": 0}, reservations=(record,)))
    assert store.find_reservation(record.id) is None
    store.commit(Change(pools={"h100": 1}, reservations=(record,)))
    assert store.observe().pools == {"h100": 2}


def test_the_plan_of_a_pool_is_written_with_its_version_and_stays_until_the_next(store: Records) -> None:
    slots = {
        7: SlotRecord(start=NOW, nodes=("node-2", "node-1")),
        9: SlotRecord(start=NOW + timedelta(microseconds=1), nodes=("node-1",), estimate=True),
    }
    plan = PoolDocument(picture="digest", slots=slots, causes={7: "a reason", 9: "a reason"})
    store.commit(Change(pools={"h100": 0, "l4": 0}, plans={"h100": plan}))
    assert store.observe().plans["h100"] == plan
    assert store.observe().plans.get("l4", PoolDocument()) == PoolDocument()
    store.commit(Change(pools={"h100": 1}))
    assert store.observe().plans["h100"] == plan
    with pytest.raises(Conflict):
        store.commit(Change(pools={"h100": 1}, plans={"h100": PoolDocument()}))
    assert store.observe().plans["h100"] == plan
    store.commit(Change(pools={"h100": 2}, plans={"h100": PoolDocument(picture="other")}))
    assert store.observe().plans["h100"] == PoolDocument(picture="other")


def test_a_request_is_stored_once_with_its_effect(store: Records) -> None:
    request = a_request()
    store.commit(Change(reservations=(a_reservation(),), request=request))
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(a_reservation(),), request=request))
    assert len(store.observe().reservations) == 1
    assert store.find_request(request.id) == request
    assert store.find_request("0" * 32) is None


def test_two_live_reservations_of_one_owner_never_share_a_name(store: Records) -> None:
    first = a_reservation(name="train")
    store.commit(Change(reservations=(first,)))
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(a_reservation(name="train"),)))
    store.commit(Change(reservations=(a_reservation(name="train", owner="unix:1001"),)))
    read = store.find_reservation(first.id)
    assert read is not None
    store.commit(Change(reservations=(replace(read, state=State.ENDING, ended_why=EndReason.CANCELLED),)))
    store.commit(Change(reservations=(a_reservation(name="train"),)))


def test_two_disks_of_one_owner_never_share_a_name(store: Records) -> None:
    store.commit(Change(disks=(a_disk(name="proj"),)))
    with pytest.raises(Conflict):
        store.commit(Change(disks=(a_disk(name="proj"),)))
    store.commit(Change(disks=(a_disk(name="proj", owner="unix:1001"), a_disk(name="other"))))
    assert [disk.name for disk in store.list_disks("unix:1000").items] == ["other", "proj"]
    everyones = [(disk.owner, disk.name) for disk in store.list_disks(None).items]
    assert everyones == [("unix:1000", "other"), ("unix:1000", "proj"), ("unix:1001", "proj")]


def test_ended_reservations_are_not_observed_but_are_found(store: Records) -> None:
    ended = a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED)
    store.commit(Change(reservations=(ended,)))
    assert store.observe().reservations == ()
    assert store.find_reservation(ended.id) is not None


def test_observing_brings_the_disks_that_a_pass_needs_to_decide(store: Records) -> None:
    disk = a_disk(holder="r")
    waited_for = a_disk(holder="r", successor="s")
    store.commit(Change(disks=(disk, waited_for, a_disk(holder="r", zone="a"), a_disk(zone="a"), a_disk())))
    seen = store.observe().disks
    assert sorted((found.successor or "", found.zone, found.version) for found in seen.values()) == [
        ("", "a", 1),
        ("s", "", 1),
    ]
    released = seen[waited_for.id].released_by("r")
    assert not released.concerns_passes
    store.commit(Change(disks=(released,)))
    assert len(store.observe().disks) == 1


def test_events_are_kept_in_the_order_in_which_they_were_written(store: Records) -> None:
    record = a_reservation()
    told = tuple(an_event(record.id, kind=kind) for kind in ("asked", "placed", "ready"))
    store.commit(Change(reservations=(record,), events=told[:2]))
    store.commit(Change(events=told[2:]))
    stored = store.list_events(Subject.reservation(record.id)).items
    assert [event.kind for event in stored] == ["asked", "placed", "ready"]


def test_each_kind_of_subject_has_events_of_its_own(store: Records) -> None:
    subjects = [Subject(kind, "same") for kind in SubjectKind]
    events = [an_event("same", subject_kind=subject.kind, text=subject.kind) for subject in subjects]
    change = Change(events=(*events, *events[:2]))
    assert change.items == len(SubjectKind)
    store.commit(change)
    for subject, event in zip(subjects, events, strict=True):
        assert set(store.list_events(subject).items) == {event}
    assert len(store.list_events(subjects[0]).items) == 2


def test_a_lease_belongs_to_one_holder_until_it_is_over(store: Records) -> None:
    length = timedelta(seconds=10)
    assert store.acquire_lease("passes", "a", NOW, length)
    assert not store.acquire_lease("passes", "b", NOW + timedelta(seconds=5), length)
    assert store.acquire_lease("passes", "a", NOW + timedelta(seconds=5), length)
    assert store.acquire_lease("passes", "b", NOW + timedelta(seconds=20), length)
    assert not store.acquire_lease("passes", "a", NOW + timedelta(seconds=21), length)


def test_the_clock_anchor_is_swapped(store: Records) -> None:
    anchor = ClockAnchor(boot_id="b", wall=NOW, since_boot=timedelta(seconds=5))
    assert store.swap_clock_anchor(anchor) is None
    assert store.swap_clock_anchor(None) == anchor
    assert store.swap_clock_anchor(replace(anchor, boot_id="c")) == anchor


def test_the_clock_anchor_is_written_with_the_rest_of_a_change_or_not_at_all(store: Records) -> None:
    first = ClockAnchor(boot_id="b", wall=NOW, since_boot=timedelta(seconds=5))
    store.commit(Change(clock_anchor=first, users=(a_user(),)))
    assert store.swap_clock_anchor(None) == first
    with pytest.raises(Conflict):
        store.commit(Change(clock_anchor=replace(first, boot_id="c"), users=(a_user(),)))
    assert store.swap_clock_anchor(None) == first
    store.commit(Change(events=(an_event("r"),)))
    assert store.swap_clock_anchor(None) == first


def test_users_are_versioned(store: Records) -> None:
    store.commit(Change(users=(a_user(),)))
    user = store.find_user("unix:1000")
    assert user is not None
    assert user.version == 1
    store.commit(Change(users=(user,)))
    with pytest.raises(Conflict):
        store.commit(Change(users=(user,)))
    assert store.find_user("unix:7") is None


def test_a_record_that_cannot_be_read_is_shown_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "odc.db"
    store = SqlStateStore(f"sqlite:///{path}")
    broken, good = a_reservation(), a_reservation()
    store.commit(Change(reservations=(broken, good)))
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE reservations SET body = CAST(replace(CAST(body AS TEXT), '2026', 'noon') AS BLOB) WHERE id = ?",
            (broken.id,),
        )
    connection.close()
    fresh = SqlStateStore(f"sqlite:///{path}")
    seen = fresh.observe()
    assert [r.id for r in seen.reservations] == [good.id]
    assert "created_at" in seen.unreadable[broken.id]
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE reservations SET body = CAST(replace(CAST(body AS TEXT), 'noon', '2026') AS BLOB) WHERE id = ?",
            (broken.id,),
        )
    connection.close()
    seen = fresh.observe()
    assert {r.id for r in seen.reservations} == {broken.id, good.id}
    assert seen.unreadable == {}
    store.close()
    fresh.close()


def test_a_backup_is_whole_and_never_replaces_a_file(tmp_path: Path) -> None:
    store = SqlStateStore(f"sqlite:///{tmp_path}/odc.db")
    record, disk = a_reservation(), a_disk()
    snapshot, secret = a_snapshot(disk.id), a_secret(record)
    store.commit(Change(reservations=(record,), secrets=(secret,), disks=(disk,), snapshots=(snapshot,)))
    store.back_up(tmp_path / "copy.db")
    with pytest.raises(ProviderRefused, match="exists"):
        store.back_up(tmp_path / "copy.db")
    copy = SqlStateStore(f"sqlite:///{tmp_path}/copy.db")
    assert copy.find_reservation(record.id) is not None
    assert copy.find_secrets(record.id) == secret
    assert copy.list_snapshots(disk.id).items == (snapshot,)
    store.close()
    copy.close()


def test_a_handover_gives_what_has_ended_and_deletes_the_user(store: Records) -> None:
    ended = a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED, disk_id=None)
    others = a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED, disk_id=None, owner="unix:1001")
    store.commit(Change(reservations=(ended, others), users=(a_user(),)))
    user = store.find_user("unix:1000")
    assert user is not None
    store.commit(Change(handover=Handover(user=user, to="former:1000:a")))
    assert store.find_user("unix:1000") is None
    assert every_reservation(store, "unix:1000") == []
    (given,) = every_reservation(store, "former:1000:a")
    assert (given.id, given.owner, given.version) == (ended.id, "former:1000:a", 2)
    kept = store.find_reservation(others.id)
    assert kept is not None
    assert kept.owner == "unix:1001"


def test_a_handover_of_a_user_who_has_changed_writes_nothing(store: Records) -> None:
    ended = a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED, disk_id=None)
    store.commit(Change(reservations=(ended,), users=(a_user(),)))
    read = store.find_user("unix:1000")
    assert read is not None
    store.commit(Change(users=(replace(read, name="later"),)))
    with pytest.raises(Conflict):
        store.commit(Change(handover=Handover(user=read, to="former:1000:a"), disks=(a_disk(),)))
    assert [record.id for record in every_reservation(store, "unix:1000")] == [ended.id]
    assert store.list_disks("unix:1000").items == ()


def test_users_are_listed_and_those_held_are_observed(store: Records) -> None:
    store.commit(Change(users=(a_user(), a_user(principal="unix:1001", claimed_by="eve"))))
    assert [user.principal for user in store.list_users().items] == ["unix:1000", "unix:1001"]
    (held,) = store.observe().held
    assert (held.principal, held.claimed_by, held.version) == ("unix:1001", "eve", 1)
    store.commit(Change(users=(replace(held, claimed_by=""),)))
    assert store.observe().held == ()


def test_a_disk_is_found_by_its_id(store: Records) -> None:
    disk = a_disk()
    store.commit(Change(disks=(disk,)))
    found = store.find_disk(disk.id)
    assert found is not None
    assert (found.name, found.version) == (disk.name, 1)
    assert store.find_disk("0" * 32) is None


def test_the_oldest_requests_are_pruned_first(store: Records) -> None:
    requests = [a_request(id=f"{number:032x}", received_at=NOW + timedelta(days=number)) for number in range(5)]
    for request in reversed(requests):
        store.commit(Change(request=request))
    assert store.prune_requests(NOW + timedelta(days=3), 2) == 2
    assert [store.find_request(request.id) is not None for request in requests] == [False, False, True, True, True]
    assert store.prune_requests(NOW + timedelta(days=3), 2) == 1
    assert store.prune_requests(NOW + timedelta(days=3), 2) == 0
    assert [store.find_request(request.id) is not None for request in requests] == [False, False, False, True, True]


def test_the_oldest_ended_reservations_beyond_those_kept_are_deleted(store: Records) -> None:
    ended = [a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED) for _ in range(6)]
    for record in ended:
        store.commit(Change(reservations=(record,), events=(an_event(record.id),)))
    live, other = a_reservation(), a_reservation(owner="unix:1001", state=State.ENDED, ended_why=EndReason.EXPIRED)
    store.commit(Change(reservations=(live, other), events=(an_event(live.id), an_event(other.id))))
    assert [r.id for r in store.list_oldest_ended(2)] == [r.id for r in ended[:2]]
    assert len(store.list_oldest_ended(100)) == 7
    for expected in (ended[:2], ended[2:3], []):
        found = [record.id for record in store.list_ended_beyond("unix:1000", 3, 2)]
        assert found == [record.id for record in expected]
        store.delete_ended([*found, live.id, "0" * 32])
    kept = {record.id for record in every_reservation(store)}
    assert kept == {live.id, other.id, *(record.id for record in ended[3:])}
    has_events = [bool(store.list_events(Subject.reservation(record.id)).items) for record in (*ended, live, other)]
    assert has_events == [False] * 3 + [True] * 5
    assert store.list_ended_beyond("unix:1000", 100, 2) == ()


def test_events_of_disks_nodes_and_users_are_deleted_by_age(store: Records) -> None:
    subjects = [Subject(kind, f"{kind}-{name}") for kind in OTHERS for name in ("a", "b")]
    for days, subject in [*enumerate(subjects), *((10, subject) for subject in subjects)]:
        at = NOW + timedelta(days=days)
        told = (an_event(subject.id, subject_kind=subject.kind, at=at, text=text) for text in ("first", "second"))
        store.commit(Change(events=tuple(told)))
    store.commit(Change(reservations=(a_reservation(id="a" * 32),), events=(an_event("a" * 32),)))
    assert store.list_event_subjects(NOW, 100) == ()
    before = NOW + timedelta(days=3)
    assert set(store.list_event_subjects(before, 100)) == set(subjects[:3])
    assert len(store.list_event_subjects(before, 1)) == 1
    for subject in (*store.list_event_subjects(before, 100), subjects[3]):
        store.delete_events(subject, before)
    assert store.list_event_subjects(before, 100) == ()
    assert [len(store.list_events(subject).items) for subject in subjects] == [2, 2, 2, 4, 4, 4]
    page = store.list_events(subjects[3], limit=3)
    assert len(page.items) == 3
    assert [event.at.day for event in store.list_events(subjects[3], page.next).items] == [(NOW + timedelta(10)).day]
    assert len(store.list_events(Subject.reservation("a" * 32)).items) == 1


def test_secrets_are_read_by_themselves_and_deleted_with_their_reservation(store: Records) -> None:
    record = a_reservation(state=State.ENDED, ended_why=EndReason.EXPIRED)
    live = a_reservation()
    own, other = (Secrets(reservation_id=one.id, host_key=f"private {one.id}") for one in (record, live))
    store.commit(Change(reservations=(record, live), secrets=(own, other)))
    assert store.find_secrets(record.id) == own
    read = store.find_reservation(live.id)
    assert read is not None
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(live,), secrets=(replace(other, host_key="stolen"),)))
    assert store.find_secrets(live.id) == other
    store.commit(Change(reservations=(read,), secrets=(replace(other, host_key="new"),)))
    assert store.find_secrets(live.id) == replace(other, host_key="new")
    store.delete_ended([record.id])
    assert store.find_secrets(record.id) is None
    assert store.find_secrets(live.id) is not None


def test_a_reservation_that_ends_gives_up_its_name_and_keeps_its_place(store: Records) -> None:
    first = a_reservation(name="train")
    store.commit(Change(reservations=(first,)))
    read = store.find_reservation(first.id)
    assert read is not None
    ended = replace(read, state=State.ENDED, ended_why=EndReason.CANCELLED)
    store.commit(Change(reservations=(ended,)))
    stored = store.find_reservation(first.id)
    assert stored is not None
    assert (stored.order, stored.version, stored.live) == (read.order, 2, False)
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(replace(ended, attempt=9),)))
    store.commit(Change(reservations=(a_reservation(name="train"),)))
    with pytest.raises(Conflict):
        store.commit(Change(reservations=(a_reservation(name="train"),)))
    store.commit(Change(reservations=(replace(stored, user="renamed"),)))
    assert [r.user for r in store.list_ended("unix:1000").items] == ["renamed"]


def test_a_disk_is_renamed_and_given_away(store: Records) -> None:
    store.commit(Change(disks=(a_disk(name="a"), a_disk(name="b"))))
    a, b = store.list_disks("unix:1000").items
    store.commit(Change(disks=(replace(b, owner="unix:1001"),)))
    store.commit(Change(disks=(replace(a, name="b"),)))
    assert [disk.name for disk in store.list_disks("unix:1000").items] == ["b"]
    store.commit(Change(disks=(a_disk(name="a"),)))
    with pytest.raises(Conflict):
        store.commit(Change(disks=(a_disk(name="b", owner="unix:1001"),)))


def test_a_live_reservation_is_found_by_its_place_in_line(store: Records) -> None:
    first, second = a_reservation(), a_reservation()
    for record in (first, second):
        store.commit(Change(reservations=(record,)))
    seen = store.observe().reservations
    assert [store.find_in_line(record.order) for record in seen] == list(seen)
    assert store.find_in_line(seen[1].order + 1) is None
    store.commit(Change(reservations=(replace(seen[0], state=State.ENDED),)))
    assert store.find_in_line(seen[0].order) is None
    assert store.find_in_line(seen[1].order) == seen[1]


def test_several_disks_are_found_at_once(store: Records) -> None:
    disks = [a_disk(id=f"{number:032x}", name=f"disk-{number}") for number in range(3)]
    store.commit(Change(disks=tuple(disks)))
    found = store.find_disks([disks[0].id, disks[2].id, "f" * 32])
    assert {key: disk.name for key, disk in found.items()} == {disks[0].id: "disk-0", disks[2].id: "disk-2"}
    assert store.find_disks([]) == {}
