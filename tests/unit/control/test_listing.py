"""Whose reservations are listed, and what their records keep of the nodes."""

from __future__ import annotations

import pytest
from tests.builders import a_node
from tests.world import ADA, BEN, World

from odc.domain.errors import NotFound


def listed(world: World, user: str) -> int:
    return len(world.queries.reservations(ADA, user, ended=False, statuses=frozenset()))


def test_a_user_that_nobody_knows_is_refused_and_one_without_reservations_is_not() -> None:
    world = World()
    world.reserve(BEN)
    world.cancel(world.reserve(ADA))
    world.settle()
    assert (listed(world, "ben"), listed(world, "ada"), listed(world, "me")) == (1, 0, 0)
    with pytest.raises(NotFound, match="no user 'bogus' is known here"):
        listed(world, "bogus")


@pytest.mark.parametrize("simulated", [True, False])
def test_a_place_keeps_whether_its_gpus_are_simulated(simulated: bool) -> None:
    world = World(nodes=(a_node(simulated=simulated),))
    assert [place.simulated for place in world.reserve().places] == [simulated]
