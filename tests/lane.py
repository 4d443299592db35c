"""The lane of this process: a number in everything that two runs at the same time must not share.

Names of clouds and users, ports, networks and user ids contain it. `ODC_TEST_LANE` (0 to 19) separates the runs of
checkouts. Each worker process of a run has a lane of its own: that of the run plus 20 for each process before it.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

RUNS = 20
WORKERS = 3
"""As many as there are numbers for."""
CLOUDS = 4
"""Whole clouds that a lane may have at the same time."""
BLOCKS = 6
"""Ranges of ports and addresses that a lane has for engines without a cloud."""
FIRST_PORT = 10000
PORTS = 310
"""Of a lane. All are below those that the kernel gives to connections, and to listeners that ask for any port."""
RUN_LANE = int(os.environ.get("ODC_TEST_LANE", "0"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
LANE = RUN_LANE + RUNS * WORKER
LANES = tuple(RUN_LANE + RUNS * worker for worker in range(WORKERS))
"""Of all processes of this run."""
LOCKS = Path("/run/odc-tests")
RUN_VARIABLE = "ODC_TEST_RUN"
"""In the environment of everything that a run starts: its id."""

if not 0 <= RUN_LANE < RUNS:
    raise ValueError(f"ODC_TEST_LANE={RUN_LANE}: must be 0 to {RUNS - 1}")
if WORKER >= WORKERS:
    raise ValueError(f"tests of real components run in at most {WORKERS} processes: -n {WORKERS}")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process of the machine is in here at a time.

    Args:
        name: of what is locked.
    """
    LOCKS.mkdir(mode=0o755, exist_ok=True)
    with (LOCKS / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lane_name(word: str, rest: str | int = 0) -> str:
    """A name that no other lane gives, for a cloud or whatever else the machine has only one of.

    Args:
        word: the first part, of letters and digits.
        rest: what tells the names of one lane apart: a digit, or six hexadecimal digits.
    """
    return f"{word}-t{LANE:02}{rest}"


def cloud_ports(number: int) -> tuple[int, int]:
    """The first and last SSH port of a whole cloud's boxes.

    Args:
        number: 0 to 3, of the cloud in this lane.
    """
    first = FIRST_PORT + PORTS * LANE + 30 * number
    return first, first + 29


def engine_ports(block: int) -> tuple[int, int]:
    """The first and last SSH port of the boxes of an engine without a cloud.

    Args:
        block: 0 to 5, of this lane's blocks.
    """
    first = FIRST_PORT + PORTS * LANE + 30 * (CLOUDS + block)
    return first, first + 29


def listening_port(number: int) -> int:
    """A port for a test's own listener.

    Args:
        number: 0 to 9, another one for each test that needs one.
    """
    return FIRST_PORT + PORTS * LANE + 30 * (CLOUDS + BLOCKS) + number


def cloud_network(number: int, lane: int = LANE) -> str:
    """The addresses of a whole cloud's boxes.

    Args:
        number: 0 to 3, of the cloud in its lane.
        lane: which one.
    """
    place = CLOUDS * lane + number
    return f"10.{92 + place // 8}.{place % 8 * 32}.0/19"


def cloud_ids(number: int, lane: int = LANE) -> int:
    """The first host id of a whole cloud's boxes: the kernel counts processes by user, those of all clouds together.

    Args:
        number: 0 to 3, of the cloud in its lane.
        lane: which one.
    """
    return 2_200_000_000 + 7_000_000 * (CLOUDS * lane + number)


def engine_network(block: int, lane: int = LANE) -> str:
    """The addresses of the boxes of an engine without a cloud.

    Args:
        block: 0 to 5, of the lane's blocks.
        lane: which one.
    """
    place = BLOCKS * lane + block
    return f"10.{128 + place // 16}.{place % 16 * 16}.0/20"


def networks_of(lanes: Iterable[int]) -> list[str]:
    """All addresses of boxes that these lanes may use."""
    return [
        network
        for lane in lanes
        for network in (
            *(cloud_network(number, lane) for number in range(CLOUDS)),
            *(engine_network(block, lane) for block in range(BLOCKS)),
        )
    ]


def pattern_of(lanes: Iterable[int]) -> re.Pattern[str]:
    """Finds names that `lane_name` has given in these lanes, also inside of longer names."""
    numbers = "|".join(f"{lane:02}" for lane in lanes)
    return re.compile(rf"(?<![a-z0-9])[a-z][a-z0-9]*-t(?:{numbers})(?:\dx?|[0-9a-f]{{6}})(?![a-z0-9_])")
