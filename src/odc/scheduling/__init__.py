"""Planning: who starts when, and where. Pure; counts units, knows no users. Start with `plan.py`."""

from odc.scheduling.picture import Claim, Opening, Picture, Plan, PoolNode, Slot, Waiting, could_ever_serve
from odc.scheduling.plan import PoolPlan, plan_pool

__all__ = [
    "Claim",
    "Opening",
    "Picture",
    "Plan",
    "PoolNode",
    "PoolPlan",
    "Slot",
    "Waiting",
    "could_ever_serve",
    "plan_pool",
]
