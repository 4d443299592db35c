"""Disks, users and nodes have histories of their own: what operators do to them, and when a node does not answer."""

from __future__ import annotations

from contextlib import suppress

import pytest
from tests.builders import a_node
from tests.world import ADA, MINUTE, OPERATOR, SECOND, Fuse, World

from odc.control.stored_documents import MOST_EVENTS
from odc.domain.errors import ProviderUnavailable
from odc.domain.records import AuditEvent, Subject, SubjectKind
from odc.domain.requests import ForgetUser, MoveUser, PruneSnapshots


def history(world: World, kind: SubjectKind, key: str) -> list[tuple[str, str, str]]:
    """Kind, actor and text of the events of a subject."""
    events = world.store.list_events(Subject(kind, key)).items
    return [(str(event.kind), event.actor, event.text) for event in events]


def node_events(world: World, name: str) -> tuple[AuditEvent, ...]:
    return world.store.list_events(Subject(SubjectKind.NODE, name)).items


def killed() -> None:
    raise ProviderUnavailable("killed")


def with_snapshots(world: World, name: str, number: int) -> str:
    """A disk with so many snapshots; its id."""
    for _ in range(number):
        record = world.reserve(disk=name)
        world.cancel(record)
        world.settle()
    return world.disk(name).id


def test_a_prune_by_an_operator_is_an_event_of_each_disk_that_loses_snapshots() -> None:
    world = World()
    pruned, other = with_snapshots(world, "proj", 3), with_snapshots(world, "other", 1)
    world.send(PruneSnapshots(keep=1), OPERATOR)
    assert history(world, SubjectKind.DISK, pruned) == [("pruned", OPERATOR.user, "2 snapshots are being deleted")]
    assert history(world, SubjectKind.DISK, other) == []


def test_a_forgotten_user_and_the_disks_that_change_hands_say_so() -> None:
    world = World()
    disk_id = with_snapshots(world, "proj", 1)
    world.send(ForgetUser(user="ada"), OPERATOR)
    (former,) = [user.principal for user in world.store.list_users().items if user.is_former]
    told = f"ada (unix:1000) was forgotten; what is kept belongs to {former}"
    assert history(world, SubjectKind.USER, ADA.id) == [("forgotten", OPERATOR.user, told)]
    world.send(MoveUser(user=former, to="ben"), OPERATOR)
    told = f"everything of ada ({former}) was given to ben (unix:1001)"
    for principal in (former, "unix:1001"):
        assert history(world, SubjectKind.USER, principal) == [("moved", OPERATOR.user, told)]
    assert history(world, SubjectKind.DISK, disk_id) == [
        ("handed over", OPERATOR.user, f"from ada (unix:1000) to {former}, as proj"),
        ("handed over", OPERATOR.user, f"from ada ({former}) to ben (unix:1001), as proj"),
    ]


def test_a_user_with_a_new_name_says_so() -> None:
    world = World()
    world.accounts.logins[1000] = "lovelace"
    world.send(MoveUser(user="1000", to="lovelace"), OPERATOR)
    assert history(world, SubjectKind.USER, ADA.id) == [("moved", OPERATOR.user, "recorded as lovelace, was ada")]


def test_a_node_that_stops_answering_and_answers_again_says_so_once_each() -> None:
    world = World((a_node("node-1"), a_node("node-2")))
    world.pass_time(MINUTE)
    world.cluster.silence("node-2")
    world.pass_time(SECOND)
    since = world.clock.now()
    world.pass_time(MINUTE, step=SECOND)
    world.crash()
    world.pass_time(MINUTE)
    world.cluster.heal()
    world.pass_time(MINUTE, step=SECOND)
    assert history(world, SubjectKind.NODE, "node-1") == []
    assert history(world, SubjectKind.NODE, "node-2") == [
        ("unreachable", "odc", "the node does not answer"),
        ("reachable", "odc", "the node answers again; it did not since"),
    ]
    assert [event.when for event in node_events(world, "node-2")] == [None, since]


def test_a_cluster_that_does_not_answer_is_not_an_event_of_each_node() -> None:
    world = World()
    world.cluster.go_down()
    world.pass_time(MINUTE)
    world.cluster.heal()
    world.pass_time(MINUTE)
    assert node_events(world, "node-1") == ()


def test_very_many_nodes_that_stop_answering_at_once_fit_into_transactions() -> None:
    nodes = [a_node(f"node-{number:04}") for number in range(30 * MOST_EVENTS)]
    world = World(nodes)
    for node in nodes:
        world.cluster.silence(node.name)
    world.pass_once()
    assert {len(node_events(world, node.name)) for node in nodes} == {1}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_silent_node_is_told_once_wherever_the_process_dies(after: bool) -> None:
    number, blown = 0, True
    while blown:
        number += 1
        world = World()
        world.cluster.silence("node-1")
        fuse = Fuse(number, after, killed, ("store",), "commit")
        world.build(fuse)
        with suppress(ProviderUnavailable):
            world.pass_once()
        blown = fuse.blown
        world.crash()
        world.pass_time(MINUTE)
        assert len(node_events(world, "node-1")) == 1
    assert number > 1
