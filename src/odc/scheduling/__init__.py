"""Planning: which request starts when, and on which nodes. Pure; counts units, knows no users. Start with `plan.py`.

`model` has the input and output. Below the plan: `pool_plan` (the plan as it is changed), `node_timelines` (what is
free on each node, and the placed slots), `timeline` (one node), `window_index` (the earliest fit) and `grown_windows`
(which slots may start earlier). `extension` needs no plan.
"""

from odc.scheduling.extension import Claim, latest_end
from odc.scheduling.model import (
    ANYWHERE,
    Allocation,
    OpenWindow,
    Plan,
    PoolChange,
    PoolNode,
    PoolState,
    QueuedRequest,
    Slot,
    Where,
    could_ever_serve,
)
from odc.scheduling.plan import build_plan, change_plan, plan_pool
from odc.scheduling.pool_plan import START_GRACE, PoolPlan

__all__ = [
    "ANYWHERE",
    "START_GRACE",
    "Allocation",
    "Claim",
    "OpenWindow",
    "Plan",
    "PoolChange",
    "PoolNode",
    "PoolPlan",
    "PoolState",
    "QueuedRequest",
    "Slot",
    "Where",
    "build_plan",
    "change_plan",
    "could_ever_serve",
    "latest_end",
    "plan_pool",
]
