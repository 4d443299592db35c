"""The plan of one pool: which request starts when, and on which nodes.

Start with `plan_pool`. The comment below explains how it works. Pure: the time is part of the pool's state.
"""

# Theory of operation
# ===================
#
# The policy: conservative backfill
# ---------------------------------
# Requests are served first come, first served. Every queued request has a slot: a planned start on named nodes. A
# later request may use a gap in front of an earlier one's slot (backfill) if it fits there for its whole duration. It
# never delays an earlier slot, not even that of a request far down the line (conservative; the well-known "EASY"
# backfill protects only the first in line). That is what makes a promise possible: a user hears one time at which SSH
# answers at the latest, and it moves only earlier, except after a fault.
#
# Durations are upper bounds: a slot spans the reservation's hours and the limits on preparing and stopping it. So
# plans err on one side only. A reservation that ends early leaves a gap, and slots move forward into it.
#
# How a plan is built (`build_plan`)
# ----------------------------------
# 1. Allocations. Each node has a timeline: its free units as a step function of time (`timeline`). Units in use are
#    taken until their latest end; a node that accepts nothing new is closed.
# 2. Held slots. A request that has a slot from an earlier plan keeps it: its units are taken where they were. All of
#    them come before any new slot, so new requests find only what is left.
# 3. Infeasible slots. A held slot whose node is gone, closed or in use for longer than expected (always a fault: see
#    below) gets the earliest start that is free now, in the order of the promises, so that the request which was to
#    start first loses least.
# 4. New requests, in order of arrival, each at the earliest start that is free now (`node_timelines`, and
#    `window_index` for how it is found quickly). An estimate is not a held slot; it is made again each time.
# 5. Move forward. Slots move to earlier starts that have become free, in order of arrival, until none can.
#
# Which nodes may serve a request
# ------------------------------
# A request may need labels, an architecture, a zone (that of its disk) or a profiling node: its key `Where` says which.
# All nodes share one set of timelines, whatever the keys, because a plain request and one with labels compete for the
# same units. Only the indexes of open windows are separate: one for each size and set of nodes that is asked for.
#
# What is invariant, and why
# --------------------------
# * No unit is taken twice. Every slot takes its units from the timelines as it is placed, and `find` returns only
#   starts at which they are free for the whole duration.
# * A later request never delays an earlier slot. Steps 2 to 4 only take, and what is taken is never taken away from
#   the slot that has it; step 5 moves a slot only to an earlier start, into what is free.
# * A held slot stays feasible from plan to plan. Its units were free in the last plan. Since then, time has passed,
#   requests have arrived (they got what was left), reservations have ended early (that only frees), slots have become
#   allocations which end when the slot would have ended, and extensions would be granted up to the next slot only
#   (`extension`). Anything else is a fault: a node is lost or cordoned, a box outlives its limit.
# * A pass comes a little late to every start. A slot that has been due for less than `START_GRACE` keeps its own
#   interval, in the past: moved to the present it would overlap the slot that was planned against its end.
# * Step 5 ends: each move makes one start earlier and none later, and starts are whole microseconds from now on.
#
# Moving forward: rounds, grown windows, lifting
# ----------------------------------------------
# Every slot was placed at the earliest start that was free at the time, so it can improve only through units that
# became free later: by an early end, or because another slot moved and left its old place. An open window that became
# larger is a *grown window* (`grown_windows`); a slot that none of them can help is not searched for at all.
#
# Trying every slot once, in order of arrival, is a *round*. A move frees units that may help any other slot, also one
# that was tried earlier in the round, so rounds are repeated until one of them moves nothing. A grown window is
# forgotten as soon as every slot has been tried against it.
#
# A slot's own units can be part of its better place: a slot from 3 to 5 o'clock on a node that is now free from 2 to 3
# can start at 2, but there is no open window of two hours as long as the slot itself is there. So the search is done
# with the slot *lifted*: removed, searched for, and added again at the better start or where it was. Lifting changes
# the timelines and indexes twice, which costs far more than a search. `_can_improve` finds out first, with the slot
# in place, whether it is worth it.
#
# Changing a plan instead of making it (`change_plan`)
# ---------------------------------------------------
# A pool of 10,000 requests changes by one of them at a time. A plan that is kept in memory is changed in the same
# steps: time passes, allocations are replaced, new requests are placed, slots move forward. The result is the same as
# that of `build_plan` with the slots held, for these reasons:
# * Timelines and open windows depend only on the allocations, the slots and the time, however they came about.
# * Before the change no slot could start earlier (step 5). So of all held slots, only those can that something freed
#   may help, and these are found by the same flags and grown windows as within a plan. `build_plan` tries all the
#   others in vain.
# * Time alone frees nothing, and a window that is cut by it helps nothing that it did not help before.
# Whatever may make a held slot infeasible is not done here: nodes that changed, a slot that was missed, an allocation
# that takes units of a slot, a disk that is free only after its slot begins. Then the plan is made from nothing.
#
# Cost
# ----
# With n nodes and q queued requests: taking or freeing units is linear in the steps of the nodes concerned. Finding
# the earliest start on one node is linear in the windows of about the request's length, and usually far cheaper;
# for a gang it is linear in the windows up to its start. A plan from nothing makes q searches. In step 5 each slot
# costs one binary search in a round, unless something became free that may help it. A change costs a binary search for
# each node, its own searches, and rounds only if something became free. `make bench` measures plans and changes of
# 1,000 requests on 128 nodes and of 10,000 on 1,250; the budgets are in docs/performance.md.
#
# What is here although nothing uses it yet
# -----------------------------------------
# Gangs and estimates are parts of the policy that a cloud of several machines needs, and they shape the data
# structures; adding them later would mean writing the planner again. One machine has no other node for a gang and no
# autoscaler, so `control/pools.py` leaves those fields at their defaults. The tests in tests/unit/scheduling use them.

from __future__ import annotations

from datetime import UTC, datetime

from odc.scheduling.model import Plan, PoolChange, PoolState, QueuedRequest, Slot
from odc.scheduling.pool_plan import PoolPlan

NO_PROMISE = datetime.max.replace(tzinfo=UTC)
"""Sorts a request without a promise after all requests with one."""


def plan_pool(pool: PoolState) -> Plan:
    """The plan of one pool at one time."""
    return build_plan(pool).plan


def build_plan(pool: PoolState) -> PoolPlan:
    """Plan a pool from nothing. The steps are those of the comment above; the result can be asked and changed."""
    plan = PoolPlan(pool.nodes, pool.now)
    plan.allocate(pool.allocations)

    new: list[QueuedRequest] = []
    infeasible: list[QueuedRequest] = []
    for request in sorted(pool.queued, key=lambda each: (each.promised or NO_PROMISE, each.order)):
        if request.slot is None or request.slot.estimate:
            new.append(request)
        elif not plan.keep(request, request.slot):
            infeasible.append(request)
    for request in infeasible:
        plan.replan(request)
    for request in sorted(new, key=lambda each: each.order):
        plan.place(request)

    plan.move_forward()
    return plan


def change_plan(plan: PoolPlan, change: PoolChange) -> dict[str, Slot | None] | None:
    """Change a plan like its pool. The result is the plan that `build_plan` would make, whose slots were held.

    Returns:
        The requests whose slot is new or another one, each with its slot, or None if no known time serves it. None
        instead if a held slot may have become infeasible: then the plan must be made from nothing, and this object is
        unusable.
    """
    if any(request.slot is not None and not request.slot.estimate for request in change.arrived):
        return None
    if not plan.advance(change.now) or not plan.reallocate(change.freed, change.taken, change.gone):
        return None
    if not all(plan.bound(request) for request in change.bounded):
        return None
    # Those without a slot are tried again each time, as if they were new.
    new = sorted([*plan.unplaced, *change.arrived], key=lambda each: each.order)
    for request in new:
        plan.place(request)
    moved = plan.move_forward()
    return {request_id: plan.slot_of(request_id) for request_id in [*(request.id for request in new), *moved]}
