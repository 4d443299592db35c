"""Which GPUs of the machine reach each other faster than others: by NVLink, or because they are in one NUMA node.

Call it with the driver initialized. Nothing here raises: what the driver does not say is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

_MASK_WORDS = 16
"""64-bit words of a set of NUMA nodes; enough for 1,024 nodes."""


def island_names(handles: Sequence[object]) -> list[str]:
    """Return the island of each GPU, an empty text where it is unknown.

    NVLink counts if it divides the GPUs into groups, such as pairs with a bridge. If it connects all of them or none,
    they are divided by NUMA node.

    Args:
        handles: of the library, in the driver's order.

    Cost: one question to the driver for each pair of GPUs.
    """
    linked = _linked_groups(handles)
    if 1 < len(set(linked)) < len(handles):
        return [f"nvlink-{group}" for group in linked]
    return [_numa_name(handle) for handle in handles]


def _linked_groups(handles: Sequence[object]) -> list[int]:
    """Return for each GPU the first one that it is connected with by NVLink, directly or over others."""
    groups = list(range(len(handles)))
    for first, second in combinations(range(len(handles)), 2):
        if groups[first] != groups[second] and _is_linked(handles[first], handles[second]):
            joined, gone = sorted((groups[first], groups[second]))
            groups = [joined if group == gone else group for group in groups]
    return groups


def _is_linked(first: object, second: object) -> bool:
    import pynvml

    try:
        status = pynvml.nvmlDeviceGetP2PStatus(first, second, pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    except pynvml.NVMLError:
        return False
    return bool(status == pynvml.NVML_P2P_STATUS_OK)


def _numa_name(handle: object) -> str:
    """The NUMA nodes whose memory is nearest to the GPU."""
    import pynvml

    try:
        words = pynvml.nvmlDeviceGetMemoryAffinity(handle, _MASK_WORDS, pynvml.NVML_AFFINITY_SCOPE_NODE)
    except pynvml.NVMLError:
        return ""
    nodes = [str(64 * index + bit) for index, word in enumerate(words) for bit in range(64) if word >> bit & 1]
    return f"numa-{'+'.join(nodes)}" if nodes else ""
