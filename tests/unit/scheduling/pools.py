"""Random pools for the planner's tests, and the invariants of every plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from tests.unit.scheduling.oracle import Oracle, eligible

from odc.scheduling import ANYWHERE, Allocation, PoolNode, PoolState, QueuedRequest, Slot, Where

PROFILING = Where(profiling=True)
WHERE = (
    *[ANYWHERE] * 6,
    Where(labels=(("disk", "ssd"),)),
    Where(zone="z1"),
    Where(arch="arm64"),
    Where(labels=(("disk", "ssd"),), zone="z0"),
)
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_request(number: int, units: int = 1, hours: float = 1, **changes: object) -> QueuedRequest:
    defaults = {"id": f"r{number}", "units": units, "nodes": 1, "duration": hours * HOUR, "order": number}
    return QueuedRequest(**(defaults | changes))  # type: ignore[arg-type]


@st.composite
def requests(draw: st.DrawFn, number: int) -> QueuedRequest:
    gang = draw(st.integers(0, 5)) == 0
    return a_request(
        number,
        units=draw(st.sampled_from([4, 8] if gang else [1, 2, 4, 8])),
        hours=draw(st.integers(1, 16)) / 4,
        nodes=2 if gang else 1,
        where=PROFILING if not gang and draw(st.integers(0, 7)) == 0 else draw(st.sampled_from(WHERE)),
        not_before=draw(st.sampled_from([None, None, None, NOW + HOUR])),
    )


@st.composite
def pools(draw: st.DrawFn) -> list[PoolNode]:
    """At most two zones; sometimes with a profiling node, an unusable node or an addable node."""
    zones = draw(st.integers(1, 2))
    nodes = [
        PoolNode(
            name=f"n{index}",
            units=draw(st.sampled_from([4, 8])),
            zone=f"z{index % zones}",
            labels=draw(st.sampled_from([{}, {"disk": "ssd"}])),
            arch=draw(st.sampled_from(["amd64", "amd64", "arm64"])),
            usable=draw(st.integers(0, 5)) > 0,
        )
        for index in range(draw(st.integers(1, 4)))
    ]
    if draw(st.booleans()):
        nodes.append(PoolNode(name="p", units=8, profiling=True))
    if draw(st.integers(0, 3)) == 0:
        nodes.append(PoolNode(name="later", units=8, zone="z0", available_from=NOW + HOUR / 6))
    return nodes


@st.composite
def pool_states(draw: st.DrawFn) -> PoolState:
    nodes = draw(pools())
    allocations = []
    for node in nodes:
        free = node.units if node.available_from is None else 0
        for _ in range(draw(st.integers(0, 2))):
            units = draw(st.integers(1, 4))
            if units <= free:
                free -= units
                until = NOW + draw(st.integers(1, 20)) * HOUR / 4
                allocations.append(Allocation(node.name, units, draw(st.sampled_from([until] * 9 + [None]))))
    queued = [draw(requests(number)) for number in range(draw(st.integers(0, 12)))]
    return PoolState(now=NOW, nodes=nodes, allocations=allocations, queued=queued)


def units_on(nodes: dict[str, PoolNode], request: QueuedRequest, name: str) -> int:
    """Units that the request takes on that node: all of a profiling node."""
    return nodes[name].units if request.where.profiling else request.units


def check_plan(pool: PoolState, slots: dict[str, Slot]) -> None:
    """No unit is allocated twice; gangs are complete and in one zone; profiling requests get whole profiling nodes."""
    nodes = {node.name: node for node in pool.nodes}
    oracle = Oracle(pool)
    for request in pool.queued:
        slot = slots.get(request.id)
        if slot is None or slot.estimate:
            continue
        assert len(set(slot.nodes)) == request.nodes
        assert len({nodes[name].zone for name in slot.nodes}) == 1
        assert all(eligible(nodes[name], request) and nodes[name].usable for name in slot.nodes)
        if request.nodes > 1:
            assert all(nodes[name].units == request.units for name in slot.nodes)
        for name in slot.nodes:
            assert oracle.free(name, slot.start, slot.start + request.duration) >= units_on(nodes, request, name)
        oracle.take(slot.nodes, slot.start, request.duration, units_on(nodes, request, slot.nodes[0]))
