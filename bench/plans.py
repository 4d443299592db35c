"""How long planning takes: pools of the sizes that DESIGN's budgets name, filled and queued by a fixed random history."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from odc.scheduling import Claim, Picture, PoolNode, PoolPlan, Waiting

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNITS = 8
SIZES = (1, 1, 2, 2, 4, 8)


def picture(nodes: int, queued: int, seed: int = 1) -> Picture:
    """A pool whose nodes are all in use, with as many waiting requests: one box or a gang, 5 minutes to 24 hours."""
    dice = random.Random(seed)  # noqa: S311
    pool = [PoolNode(name=f"n{number}", units=UNITS, zone=f"z{number % 4}") for number in range(nodes)]
    claims = []
    for node in pool:
        left = UNITS
        while left > 0:
            units = min(left, dice.choice(SIZES))
            left -= units
            claims.append(Claim(node.name, units, NOW + timedelta(seconds=dice.randrange(60, 86400))))
    return Picture(now=NOW, nodes=pool, claims=claims, waiting=[request(dice, number) for number in range(queued)])


def request(dice: random.Random, number: int) -> Waiting:
    """One waiting request; one in twenty is a gang of two to eight whole nodes."""
    gang = dice.random() < 0.05
    return Waiting(
        id=f"r{number}",
        units=UNITS if gang else dice.choice(SIZES),
        nodes=dice.randrange(2, 9) if gang else 1,
        duration=timedelta(seconds=dice.randrange(300, 86400)),
        order=number,
    )


def milliseconds(work: Callable[[], object]) -> float:
    """How long it takes once, without a collection of garbage that others left in between."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start)
    finally:
        gc.enable()


def fresh_plan(nodes: int, queued: int, seed: int) -> float:
    """Lay every slot anew, in ms."""
    given = picture(nodes, queued, seed)
    return milliseconds(lambda: PoolPlan(given).plan)


def one_arrival(plan: PoolPlan, number: int) -> float:
    """One more request, in ms."""
    return milliseconds(lambda: plan.add(request(random.Random(number), 10**6 + number)))  # noqa: S311


def one_early_end(plan: PoolPlan, given: Picture, number: int) -> float:
    """One reservation ends long before its time, in ms."""
    claim = given.claims[number * 7 % len(given.claims)]
    return milliseconds(lambda: plan.release(claim.node, claim.units, NOW, claim.until))
