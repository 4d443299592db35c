"""Requests act once; what cannot be is refused on the server; references find one's own.

Rows 2 to 4, 6 and 30 of docs/survives.md.
"""

from __future__ import annotations

import math
import uuid

import pytest
from tests.builders import KEY, a_node
from tests.world import ADA, BEN, HOUR, OPERATOR, SECOND, Fuse, World

from odc.adapters.memory.state_store import MemoryStateStore
from odc.api.messages.reservations import PublicView, WaitsForView
from odc.api.views import reservation_view
from odc.control.queue_positions import Ahead
from odc.domain.errors import InvalidRequest, NotAllowed, NotFound, ProviderUnavailable, RequestError
from odc.domain.requests import Cancel, EndAll, Reserve, SetGithubUser, SetOwnKeys
from odc.domain.reservation import State
from odc.domain.status import WaitsFor

CPU = a_node("cpu", units=4, gpus=(), gpu_type="cpu-x86")


def test_a_request_that_is_repeated_ten_times_and_after_a_crash_acts_once() -> None:
    world = World()
    request_id = uuid.uuid4().hex
    first = world.ask(request_id=request_id, disk="proj")
    for _ in range(10):
        assert world.ask(request_id=request_id, disk="proj").id == first.id
    world.crash()
    world.settle()
    again = world.ask(request_id=request_id, disk="proj")
    assert (again.id, again.state) == (first.id, State.ACTIVE)
    assert len(world.all()) == 1


def test_a_request_whose_answer_was_lost_may_be_repeated() -> None:
    world = World()
    request_id = uuid.uuid4().hex

    def lost() -> None:
        raise ProviderUnavailable("no answer")

    world.build(Fuse(1, True, lost, ("store",), "commit"))
    with pytest.raises(ProviderUnavailable):
        world.ask(request_id=request_id)
    assert len(world.all()) == 1
    assert world.ask(request_id=request_id).id == world.all()[0].id


def test_an_id_that_is_used_for_something_else_or_is_someone_elses_is_refused() -> None:
    world = World()
    request_id = uuid.uuid4().hex
    record = world.ask(request_id=request_id)
    with pytest.raises(InvalidRequest, match="another request"):
        world.ask(request_id=request_id, hours=2.0)
    with pytest.raises(NotAllowed, match="is taken"):
        world.ask(BEN, request_id=request_id)
    assert [r.id for r in world.all()] == [record.id]
    for bad in ("", "x" * 32, "A" * 32, "0" * 31):
        with pytest.raises(InvalidRequest, match="32 hexadecimal"):
            world.send(Cancel(reservation="r"), request_id=bad or "0")


@pytest.mark.parametrize("hours", [-1.0, 0.0, math.nan, math.inf, 1e308, 0.05, 24.5])
def test_hours_out_of_range_are_refused_on_the_server(hours: float) -> None:
    world = World()
    with pytest.raises(InvalidRequest, match=r"0\.0833"):
        world.ask(hours=hours)
    assert world.all() == []


@pytest.mark.parametrize("gpus", [-1, 0, 3, 5, 7, 16, 10**9])
def test_a_count_that_no_node_could_serve_is_refused_with_what_would_fit(gpus: int) -> None:
    with pytest.raises(InvalidRequest, match=r"1, 2, 4, 8|the largest has 8"):
        World().ask(gpus=gpus)


def test_a_type_without_gpus_is_asked_for_without_and_shared_by_units() -> None:
    world = World((CPU,))
    with pytest.raises(InvalidRequest, match="leave -g out"):
        world.ask(gpu_type="cpu-x86", gpus=1)
    records = [world.reserve(gpu_type="cpu-x86", gpus=0) for _ in range(5)]
    states = [world.get(record).state for record in records]
    assert states == [State.ACTIVE] * 4 + [State.QUEUED]
    box = world.cluster.read_files(world.cluster.peek()[0].name)
    assert b"ODC_CPUS=24" in box["env"]


def test_a_type_that_this_cloud_does_not_have_is_refused_with_what_it_has() -> None:
    with pytest.raises(NotFound, match="it has h100"):
        World().ask(gpu_type="b200")
    with pytest.raises(NotFound, match="did you mean h100"):
        World().ask(gpu_type="h1000")


def test_before_the_first_look_at_the_nodes_nothing_is_refused_for_ever() -> None:
    world = World()
    world.store = MemoryStateStore()
    world.build()
    world.send(SetOwnKeys(keys=(KEY,)))
    request_id = uuid.uuid4().hex
    with pytest.raises(ProviderUnavailable, match="is starting"):
        world.ask(request_id=request_id)
    world.pass_once()
    assert world.ask(request_id=request_id).state is State.QUEUED


@pytest.mark.parametrize("name", ["../x", "", "x" * 10_000, "ünï", "none", "a b; rm -rf ~"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    world = World()
    with pytest.raises(InvalidRequest):
        world.ask(name=name)
    if name != "none":
        with pytest.raises(InvalidRequest):
            world.ask(disk=name)
        with pytest.raises(InvalidRequest):
            world.send(SetGithubUser(login=name or "-"))
    assert world.all() == []
    assert world.keys.fetched == []


def test_a_new_disk_whose_name_is_probably_a_slip_is_asked_about() -> None:
    world = World()
    world.reserve(disk="my-project")
    with pytest.raises(InvalidRequest, match="did you mean my-project"):
        world.send(Reserve(gpu_type="h100", gpus=1, hours=1.0, disk="my-porject"))
    world.ask(disk="my-porject", new_disk=True)
    assert {disk.name for disk in world.store.list_disks(ADA.id).items} == {"my-project", "my-porject"}


def test_a_reservation_is_found_by_name_by_prefix_and_by_id_among_ones_own() -> None:
    world = World()
    record = world.reserve(name="train")
    for reference in ("train", record.id[:4], record.id[:8], record.id):
        assert world.queries.find(ADA, reference).record.id == record.id
    for reference in ("train", record.id[:8]):
        with pytest.raises(RequestError):
            world.queries.find(BEN, reference)
        assert world.queries.find(OPERATOR, reference).record.id == record.id
    with pytest.raises(InvalidRequest, match="at least 4"):
        world.queries.find(ADA, record.id[:3])
    with pytest.raises(NotFound, match="did you mean train"):
        world.queries.find(ADA, "trian")
    with pytest.raises(RequestError):
        world.queries.find(ADA, "")


def test_a_name_means_the_newest_one_and_not_the_one_that_ends() -> None:
    world = World()
    world.volumes.faults.add("snapshot", ProviderUnavailable("full"), 10**6)
    old = world.reserve(name="train", disk="one")
    world.cancel(old)
    world.settle()
    new = world.reserve(name="train")
    assert world.get(old).state is State.ENDING
    assert world.queries.find(ADA, "train").record.id == new.id
    world.cancel(new)
    world.settle()
    assert world.get(new).state is State.ENDED
    assert world.queries.find(ADA, "train").record.id == old.id


def test_a_name_in_use_is_refused_with_a_free_one() -> None:
    world = World()
    world.reserve(name="train")
    with pytest.raises(InvalidRequest, match="you have a reservation train") as caught:
        world.ask(name="train")
    assert "gpu-dev reserve -t h100 -g 1 -h 1 -n train-2 --disk none" in [hint.command for hint in caught.value.hints]
    assert world.ask(BEN, name="train").name == "train"
    assert [world.ask(disk=disk).name for disk in ("none", "none")] == ["temporary", "temporary-2"]


def test_only_the_owner_and_operators_read_the_story() -> None:
    world = World()
    record = world.reserve(name="train")
    assert [event.kind for event in world.queries.history(ADA, "train")[1]] == ["asked", "placed", "ready"]
    world.queries.history(OPERATOR, record.id)
    with pytest.raises(NotAllowed):
        world.queries.history(BEN, record.id)


def test_the_queue_says_the_place_in_line_and_who_is_ahead() -> None:
    world = World()
    holding = world.reserve(gpus=4, hours=2.0)
    world.reserve(BEN, gpus=4, hours=1.0)
    first = world.reserve(gpus=8)
    second = world.reserve(BEN, gpus=2)
    standing = world.queries.find(ADA, first.id)
    assert (standing.position, standing.ahead) == (1, Ahead(WaitsFor.GPUS, world.get(holding)))
    standing = world.queries.find(BEN, second.id)
    assert (standing.position, standing.ahead) == (2, Ahead(WaitsFor.QUEUE, world.get(first)))
    view = reservation_view(standing, BEN, world.status.current)
    assert view.ahead == "ada, 8 x h100"
    assert view.waits_for == WaitsForView(
        kind=WaitsFor.QUEUE, reservation=PublicView(user="ada", gpus=8, gpu_type="h100"), mine=False
    )
    listed = world.queries.reservations(ADA, "all", ended=False, statuses=frozenset({"queued"}))
    assert [(s.record.id, s.position) for s in listed] == [(first.id, 1), (second.id, 2)]


def test_who_is_ahead_is_the_one_that_decides_the_start() -> None:
    world = World()
    deciding = world.reserve(gpus=4, hours=2.0)
    world.reserve(BEN, gpus=2, hours=1.0)
    world.reserve(BEN, gpus=2, hours=4.0)
    waiting = world.reserve(gpus=4)
    standing = world.queries.find(ADA, waiting.id)
    assert standing.ahead == Ahead(WaitsFor.GPUS, world.get(deciding))
    view = reservation_view(standing, ADA, world.status.current)
    assert (view.ahead, view.waits_for and view.waits_for.mine) == ("ada, 4 x h100", True)


def test_lists_show_ones_own_or_a_users_live_or_with_the_ended() -> None:
    world = World()
    old = world.reserve(name="old")
    world.cancel(old)
    world.settle()
    mine, other = world.reserve(name="mine"), world.reserve(BEN, name="other")

    def listed(user: str, ended: bool = False, *statuses: str) -> list[str]:
        found = world.queries.reservations(ADA, user, ended, frozenset(statuses))
        return [standing.record.id for standing in found]

    assert listed("me") == [mine.id]
    assert listed("me", True) == [old.id, mine.id]
    assert listed("ben") == [other.id]
    assert listed("all") == [mine.id, other.id]
    assert listed("all", False, "cancelled") == [old.id]
    with pytest.raises(InvalidRequest, match="no status"):
        listed("all", False, "done")


def test_keys_are_checked_counted_and_none_is_kept_twice() -> None:
    world = World()
    with pytest.raises(InvalidRequest):
        world.send(SetOwnKeys(keys=("ssh-ed25519 nonsense",)))
    with pytest.raises(InvalidRequest, match="too many"):
        world.send(SetOwnKeys(keys=(KEY,) * 51))
    world.send(SetOwnKeys(keys=(KEY, KEY)))
    assert world.queries.me(ADA).keys == (KEY,)


def test_what_is_free_and_when_is_answered_from_the_plan_and_is_what_will_be_promised() -> None:
    world = World()
    world.reserve(gpus=4, hours=2.0)
    (outlook,) = world.queries.availability()
    assert outlook.counts.free == 4
    now = world.clock.now()
    assert {count: opening.start for count, opening in outlook.choices.items()} == {
        1: now,
        2: now,
        4: now,
        8: now + 2 * HOUR + world.policy.limits.stop + world.policy.limits.prepare,
    }
    assert world.reserve(gpus=8, hours=1.0).ready_by == outlook.choices[8].start


def test_a_disk_says_who_holds_it() -> None:
    world = World()
    record = world.reserve(disk="proj")
    ((disk, holder),) = world.queries.disks(ADA)
    assert holder is not None
    assert (disk.name, holder.id) == ("proj", record.id)
    assert world.queries.disks(BEN) == ()


def test_a_request_rings_so_that_nobody_waits_for_the_next_pass() -> None:
    world = World()
    world.ports.wake.wait(SECOND * 0)
    world.ask()
    assert world.ports.wake.wait(SECOND * 0)


def test_an_operators_command_from_anyone_else_changes_nothing() -> None:
    world = World()
    record = world.reserve()
    with pytest.raises(NotAllowed, match="only an operator may"):
        world.send(EndAll(), BEN)
    world.settle()
    assert world.get(record).state is State.ACTIVE
    assert len(world.all()) == 1


def test_a_change_is_told_for_the_reservations_that_changed_and_no_others() -> None:
    world = World()
    first = world.reserve(name="first")
    told: set[str] = set()
    world.ports.wake.subscribe(told.update)
    second = world.reserve(BEN, name="second")
    assert told == {second.id}
    told.clear()
    world.cancel(first)
    assert told == {first.id}, "by the request, before any pass"
    told.clear()
    world.settle()
    assert told == {first.id}
