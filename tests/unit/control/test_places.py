"""What a box got stays what it says of itself, whatever the cluster and the settings say later."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.builders import a_node
from tests.world import OPERATOR, SECOND, World

from odc.api.messages.reservations import BoxView, ReservationView
from odc.api.views import reservation_view
from odc.domain.records import Change
from odc.domain.requests import SetOwnKeys
from odc.domain.reservation import Reservation, State
from odc.domain.resources import Capacity, share_of

SMALLER = Capacity(cpu_millis=1000, memory_bytes=2**30)


def view_of(world: World, record: Reservation) -> ReservationView:
    return reservation_view(world.queries.find(OPERATOR, record.id), OPERATOR, world.status.current)


def box_of(world: World, record: Reservation) -> BoxView:
    return view_of(world, record).boxes[0]


def cpus_in_box(world: World) -> bytes:
    (box,) = world.cluster.peek()
    return next(line for line in world.cluster.read_files(box.name)["env"].splitlines() if b"ODC_CPUS" in line)


@pytest.mark.parametrize("first_version", [False, True], ids=["this version", "0.1.0"])
def test_a_box_keeps_its_resources_when_the_node_gives_less_to_boxes(first_version: bool) -> None:
    world = World()
    record = world.reserve()
    if first_version:
        places = tuple(replace(place, resources=None) for place in record.places)
        world.store.commit(Change(reservations=(replace(world.get(record), places=places),)))
    before, file_before = box_of(world, record), cpus_in_box(world)
    world.cluster.put_node(a_node("node-1", allocatable=SMALLER))
    # New keys are written with all other files.
    world.send(SetOwnKeys(keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPjN5Xh8mYv1b4uJx3m2o9c0p7q6r5s4t3u2v1w0x9yA",)))
    world.pass_time(4 * SECOND, step=SECOND)
    after = box_of(world, record)
    assert world.get(record).state is State.ACTIVE
    if first_version:
        assert after.cpus == share_of(SMALLER, 1, 8).cpus < before.cpus
    else:
        assert (after.cpus, after.memory_gib) == (before.cpus, before.memory_gib)
        assert cpus_in_box(world) == file_before
