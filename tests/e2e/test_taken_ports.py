"""Other programs have most of the ports: that uses up no attempt, and what waits says why."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, add_person, addresses, destroy, make_cloud
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
COUNT, FREE = 20, 4


def taken(port: int) -> socket.socket:
    """A listener of somebody else."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


@pytest.fixture
def crowded(bin_folder: Path) -> Iterator[tuple[Cloud, list[socket.socket]]]:
    """A cloud with four free ports of twenty, and the listeners that have the others."""
    first = addresses(3)["ports"][0]
    with ExitStack() as stack:
        others = [stack.enter_context(taken(first + number)) for number in range(COUNT - FREE)]
        made = make_cloud(bin_folder, name="ports", number=3, ports=[first, first + COUNT - 1])
        try:
            made.odc("up")
            yield made, others
        finally:
            destroy(made)


def test_the_free_ports_are_found_at_once_and_the_next_one_waits_with_the_reason(
    crowded: tuple[Cloud, list[socket.socket]],
) -> None:
    cloud, others = crowded
    user = add_person(cloud, "t")
    user.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    first = cloud.settings["ports"][0]
    for name in ("one", "two"):
        user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", name, "--disk", "none", "--wait", "--yes")
    boxes = [user.view(name)["boxes"][0] for name in ("one", "two")]
    found = [port for box in boxes for port in box["ports"].values()]
    assert sorted(found) == list(range(first + COUNT - FREE, first + COUNT))
    assert all(box["ports"]["ssh"] == box["ssh"]["port"] for box in boxes)
    assert [user.view(name)["attempt"] for name in ("one", "two")] == [1, 1]
    user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "three", "--disk", "none", "--no-wait", "--yes")
    assert user.until("three", "queued")
    why = f"all ports from {first} to {first + COUNT - 1} are in use"
    eventually("it says why", lambda: why in user.view("three")["trouble"])
    others[5].close()
    others[7].close()
    ports = user.until("three", "active")["boxes"][0]["ports"]
    assert set(ports.values()) == {first + 5, first + 7}
    user.ok("cancel", "--all", "--yes")
