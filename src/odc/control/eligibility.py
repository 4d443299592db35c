"""Which nodes may serve a reservation: the planner's keys, made from its needs and the zone of its disk. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from odc.domain.disk import Disk
from odc.domain.node import Needs, Node
from odc.scheduling import PoolNode, Where, could_ever_serve


def where_of(needs: Needs, disk: Disk | None) -> Where:
    """Return the key of the nodes that may serve these needs with this disk.

    A disk's zone is the stronger one: `reserving` refuses a request that needs another zone than its disk's.
    """
    return Where(
        labels=tuple(sorted(needs.labels.items())),
        arch=needs.arch,
        zone=(disk.zone if disk else "") or needs.zone,
        profiling=needs.profiling,
    )


def pool_node(node: Node) -> PoolNode:
    """The node as the planner sees it."""
    return PoolNode(
        name=node.name,
        units=node.units,
        zone=node.zone,
        labels=node.labels,
        arch=node.arch,
        profiling=node.profiling,
        usable=node.usable,
    )


def types_that_serve(nodes: Iterable[Node], units: int, count: int, where: Where) -> list[str]:
    """Return the types of which some nodes could serve such a request if all of them were free, by name."""
    by_type: dict[str, list[PoolNode]] = {}
    for node in nodes:
        by_type.setdefault(node.gpu_type, []).append(pool_node(node))
    return sorted(name for name, found in by_type.items() if could_ever_serve(found, units, count, where))


def what_is_missing(gpu_type: str, nodes: Iterable[Node], units: int, count: int, where: Where) -> str:
    """Return why no node could ever serve such a request, as a phrase; empty if some could.

    The first need that leaves no node is named, in the order: profiling, architecture, zone, labels, size.

    Args:
        gpu_type: of the request.
        nodes: every node; those of other types are ignored.
        units: on each node.
        count: nodes; more than one is a gang of whole nodes.
        where: which nodes may be used.
    """
    left = [pool_node(node) for node in nodes if node.gpu_type == gpu_type]
    if could_ever_serve(left, units, count, where):
        return ""
    if not left:
        return f"this cloud has no {gpu_type} now"
    for part, reason in _single_needs(gpu_type, where):
        # Each key has one need more than the one before, so the first that leaves nothing names the missing one.
        left = [node for node in left if part.allows(node)]
        if not left:
            return reason
    largest = max(node.units for node in left)
    if largest < units:
        return f"no node that may serve it has {units} {gpu_type}; the largest has {largest}"
    return f"there are not {count} nodes with {units} {gpu_type} in one zone that may serve it"


def _single_needs(gpu_type: str, where: Where) -> Iterable[tuple[Where, str]]:
    """The needs one after the other: the key with this need and those before, and what is missing if it leaves none."""
    kind = Where(profiling=where.profiling)
    yield kind, f"no {gpu_type} node is for profiling" if where.profiling else f"every {gpu_type} node is for profiling"
    kind = kind._replace(arch=where.arch)
    yield kind, f"no {gpu_type} node has {where.arch} processors"
    kind = kind._replace(zone=where.zone)
    yield kind, f"no {gpu_type} node is in zone {where.zone}"
    for label in where.labels:
        kind = kind._replace(labels=(*kind.labels, label))
        yield kind, f"no {gpu_type} node has the label {label[0]}={label[1]}"
