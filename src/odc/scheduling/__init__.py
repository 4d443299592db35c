"""Planning: who starts when, and where. Pure; counts units, knows no users. Start with `plan.py`."""

from odc.scheduling.model import (
    Allocation,
    OpenWindow,
    Plan,
    PoolNode,
    PoolState,
    QueuedRequest,
    Slot,
    could_ever_serve,
)
from odc.scheduling.plan import PoolPlan, plan_pool

__all__ = [
    "Allocation",
    "OpenWindow",
    "Plan",
    "PoolNode",
    "PoolPlan",
    "PoolState",
    "QueuedRequest",
    "Slot",
    "could_ever_serve",
    "plan_pool",
]
