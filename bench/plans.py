"""How long planning takes: pools of the sizes that the budgets name, filled and queued by a fixed random history.

The floor of a whole plan is what any planner must do: put the requests in order and make a slot for each.
"""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.measuring import in_turns, milliseconds
from bench.table import Row
from odc.scheduling import (
    Allocation,
    PoolChange,
    PoolNode,
    PoolState,
    QueuedRequest,
    Slot,
    build_plan,
    change_plan,
    plan_pool,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNITS = 8
SIZES = (1, 1, 2, 2, 4, 8)
EVENTS = 25


def pool_state(nodes: int, queued: int, seed: int = 1) -> PoolState:
    """A pool whose nodes are all in use, with that many queued requests: one box or a gang, 5 minutes to 24 hours."""
    dice = random.Random(seed)
    machines = [PoolNode(name=f"n{number}", units=UNITS, zone=f"z{number % 4}") for number in range(nodes)]
    allocations = []
    for node in machines:
        left = UNITS
        while left > 0:
            units = min(left, dice.choice(SIZES))
            left -= units
            allocations.append(Allocation(node.name, units, NOW + timedelta(seconds=dice.randrange(60, 86400))))
    return PoolState(
        now=NOW, nodes=machines, allocations=allocations, queued=[request(dice, number) for number in range(queued)]
    )


def request(dice: random.Random, number: int) -> QueuedRequest:
    """One queued request; one in twenty is a gang of two to eight whole nodes."""
    gang = dice.random() < 0.05
    return QueuedRequest(
        id=f"r{number}",
        units=UNITS if gang else dice.choice(SIZES),
        nodes=dice.randrange(2, 9) if gang else 1,
        duration=timedelta(seconds=dice.randrange(300, 86400)),
        order=number,
    )


def quietly(work: Callable[[], object]) -> float:
    """How long it takes once, with the garbage collector off: a collection would count objects of earlier work."""
    gc.collect()
    gc.disable()
    try:
        return milliseconds(work)
    finally:
        gc.enable()


def rows() -> list[Row]:
    """Two whole plans, and what one event costs in the larger one."""
    return [*_whole(128, 1000, 25, turns=11), *_whole(1250, 10_000, 300, turns=5), *_events(1250, 10_000)]


def _whole(nodes: int, queued: int, budget: float, turns: int) -> list[Row]:
    pool = pool_state(nodes, queued)
    took = in_turns(
        {"floor": lambda: quietly(lambda: _least(pool)), "ours": lambda: quietly(lambda: plan_pool(pool))}, turns
    )
    note = "floor: the requests put in order, and a slot made for each"
    return [Row(f"plan {queued:,} queued on {nodes:,} nodes", "ms", took["ours"], budget, took["floor"], note=note)]


def _least(pool: PoolState) -> dict[str, Slot]:
    line = sorted(pool.queued, key=lambda each: each.order)
    return {each.id: Slot(pool.now, (pool.nodes[0].name,)) for each in line}


def _events(nodes: int, queued: int) -> list[Row]:
    """One more arrival, and one reservation that ends early, on a plan that is kept."""
    pool = pool_state(nodes, queued)
    plan = build_plan(pool)
    dice = random.Random(2)
    arrivals = [request(dice, queued + number) for number in range(EVENTS)]
    ends = dice.sample(pool.allocations, EVENTS)
    arrival = statistics.median(quietly(partial(change_plan, plan, PoolChange(NOW, arrived=[one]))) for one in arrivals)
    early_end = statistics.median(quietly(partial(change_plan, plan, PoolChange(NOW, freed=[one]))) for one in ends)
    return [Row("one more arrival there", "ms", arrival, 1), Row("one early end there", "ms", early_end, 50)]
