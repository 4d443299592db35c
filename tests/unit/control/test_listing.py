"""Whose reservations are listed, and what their records keep of the nodes."""

from __future__ import annotations

import pytest
from tests.builders import NOW, a_node, a_reservation, a_user
from tests.world import ADA, BEN, MINUTE, OPERATOR, World

from odc.control.queries import MAX_ENDED
from odc.domain.access import Principal
from odc.domain.errors import NotFound
from odc.domain.records import Change
from odc.domain.requests import ForgetUser, MoveUser
from odc.domain.reservation import EndReason, Reservation, State


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


def an_ended(who: Principal) -> Reservation:
    ended = {"state": State.ENDED, "ended_why": EndReason.EXPIRED, "ended_at": NOW}
    return a_reservation(owner=who.id, user=who.user, **ended)


def test_the_ended_reservations_of_a_user_are_found_behind_any_number_of_others() -> None:
    world = World()
    mine = an_ended(BEN)
    world.store.commit(Change(reservations=(mine,)))
    for _ in range(MAX_ENDED):
        world.store.commit(Change(reservations=(an_ended(ADA),)))
    found = world.queries.reservations(ADA, "ben", ended=True, statuses=frozenset())
    assert [detail.record.id for detail in found] == [mine.id]
    page = world.queries.reservation_page(ADA, "ben", True, frozenset(), "ended.", 1)
    assert ([detail.record.id for detail in page.items], page.next, page.ended_read) == ([mine.id], "", 1)
    none = world.queries.reservation_page(ADA, "all", True, frozenset({"failed"}), "ended.", 7)
    assert (none.items, bool(none.next), none.ended_read) == ((), True, 7)


def test_what_ended_before_a_user_was_given_to_another_login_is_listed_under_the_new_name() -> None:
    world = World()
    for number, who in enumerate((BEN, ADA)):
        world.cancel(world.reserve(who, name=f"old{number}"), who)
        world.pass_time(10 * MINUTE)
    world.send(MoveUser(user="ben", to="ada"), OPERATOR)
    listed = world.queries.reservations(OPERATOR, "ada", ended=True, statuses=frozenset())
    page = world.queries.reservation_page(OPERATOR, "ada", True, frozenset(), "ended.", 7)
    assert [detail.record.name for detail in listed] == ["old0", "old1"]
    assert [detail.record.name for detail in page.items] == ["old1", "old0"]


def test_a_forgotten_user_and_users_of_the_same_name_are_listed_with_all_that_has_the_name() -> None:
    world = World()
    world.cancel(world.reserve(BEN), BEN)
    world.reserve(BEN, disk="proj")
    world.settle()
    other = a_user(principal="unix:4000", name=BEN.user)
    namesake = an_ended(Principal(id="unix:4000", user=BEN.user))
    world.store.commit(Change(users=(other,), reservations=(namesake,)))
    every = world.queries.reservations(OPERATOR, "ben", ended=True, statuses=frozenset())
    assert len(every) == 3
    world.send(ForgetUser(user=BEN.id), OPERATOR)
    world.send(ForgetUser(user="unix:4000"), OPERATOR)
    world.settle()
    assert len(world.queries.reservations(OPERATOR, "ben", ended=True, statuses=frozenset())) == 3


@pytest.mark.parametrize("simulated", [True, False])
def test_a_place_keeps_whether_its_gpus_are_simulated(simulated: bool) -> None:
    world = World(nodes=(a_node(simulated=simulated),))
    assert [place.simulated for place in world.reserve().places] == [simulated]
