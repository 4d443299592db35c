"""Planning: which request starts when, and on which nodes. Pure; counts units, knows no users. Start with `plan.py`.

`model` has the input and output. Below the plan: `node_timelines` (what is free on each node, and the placed slots),
`timeline` (one node), `window_index` (the earliest fit) and `grown_windows` (which slots may start earlier).
"""

from odc.scheduling.model import (
    ANYWHERE,
    Allocation,
    OpenWindow,
    Plan,
    PoolNode,
    PoolState,
    QueuedRequest,
    Slot,
    Where,
    could_ever_serve,
)
from odc.scheduling.plan import START_GRACE, PoolPlan, build_plan, plan_pool

__all__ = [
    "ANYWHERE",
    "START_GRACE",
    "Allocation",
    "OpenWindow",
    "Plan",
    "PoolNode",
    "PoolPlan",
    "PoolState",
    "QueuedRequest",
    "Slot",
    "Where",
    "build_plan",
    "could_ever_serve",
    "plan_pool",
]
