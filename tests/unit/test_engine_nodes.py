"""The nodes of one machine: as its GPUs are, or as they are pretended."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest

from odc.adapters.engine.nodes import machine_nodes, simulated_nodes
from odc.domain.catalog import Catalog
from odc.domain.errors import InvalidRequest
from odc.domain.node import FoundGpu
from odc.domain.resources import Capacity

GIB = 2**30
MACHINE = Capacity(cpu_millis=64_000, memory_bytes=512 * GIB)
KEPT = Capacity(cpu_millis=4_000, memory_bytes=16 * GIB)
NAME = platform.node() or "node-1"


def gpus(count: int, name: str, memory_gib: float, first: int = 0) -> list[FoundGpu]:
    return [FoundGpu(f"GPU-{first + number}", name, memory_gib) for number in range(count)]


H100 = gpus(6, "NVIDIA H100 80GB HBM3", 79.6)
DISPLAY = gpus(2, "NVIDIA T400 4GB", 4.0, first=90)


def test_a_machine_with_gpus_of_one_type_is_one_node_that_has_all_of_it() -> None:
    (node,) = machine_nodes(H100, Catalog(), MACHINE, KEPT)
    assert (node.name, node.gpu_type, node.units, node.simulated) == (NAME, "h100", 6, False)
    assert node.gpus == tuple(gpu.uuid for gpu in H100)
    assert node.capacity == MACHINE
    assert node.allocatable == Capacity(cpu_millis=60_000, memory_bytes=496 * GIB)


def test_gpus_of_several_types_are_a_node_for_each_and_share_the_machine() -> None:
    nodes = {node.gpu_type: node for node in machine_nodes([*DISPLAY, *H100], Catalog(), MACHINE, KEPT)}
    assert {name: (node.name, node.units) for name, node in nodes.items()} == {
        "h100": (NAME, 6),
        "t400-4gb": (f"{NAME}-t400-4gb", 2),
    }
    assert nodes["t400-4gb"].gpus == ("GPU-90", "GPU-91")
    assert nodes["h100"].capacity.cpu_millis + nodes["t400-4gb"].capacity.cpu_millis == MACHINE.cpu_millis
    assert nodes["t400-4gb"].allocatable == Capacity(cpu_millis=15_000, memory_bytes=124 * GIB)


def test_a_type_that_is_kept_for_the_host_is_not_a_node_and_takes_no_share() -> None:
    (node,) = machine_nodes([*H100, *DISPLAY], Catalog(), MACHINE, KEPT, kept_types=["t400-4gb"])
    assert (node.name, node.gpu_type, node.capacity) == (NAME, "h100", MACHINE)


def test_nothing_renames_a_node_that_boxes_run_on() -> None:
    known = {"h100": "lab1", "cpu-x86": "lab1-cpu-x86"}
    more = gpus(9, "Tesla T4", 15.7, first=50)
    nodes = machine_nodes([*H100, *more], Catalog(), MACHINE, KEPT, known=known)
    assert {node.gpu_type: node.name for node in nodes} == {"h100": "lab1", "t4": NAME}
    same = machine_nodes([*H100, *more], Catalog(), MACHINE, KEPT, known={"h100": NAME})
    assert {node.gpu_type: node.name for node in same} == {"h100": NAME, "t4": f"{NAME}-t4"}


@pytest.mark.parametrize("kept_types", [[], ["h100"]])
def test_a_machine_that_lends_no_gpu_lends_its_processors(kept_types: list[str]) -> None:
    (node,) = machine_nodes(H100 if kept_types else [], Catalog(), MACHINE, KEPT, kept_types)
    assert node.gpu_type in ("cpu-x86", "cpu-arm")
    assert (node.gpus, node.units, node.capacity) == ((), 4, MACHINE)


def test_pretended_nodes_share_the_machine_by_their_gpus() -> None:
    nodes = simulated_nodes("h100=2x8,cpu-x86=1x4", Catalog(), MACHINE, KEPT)
    assert [node.name for node in nodes] == ["cpu-x86-node-1", "h100-node-1", "h100-node-2"]
    assert all(node.simulated for node in nodes)
    assert [len(node.gpus) for node in nodes] == [0, 8, 8]
    assert len({gpu for node in nodes for gpu in node.gpus}) == 16
    assert [node.capacity.cpu_millis for node in nodes] == [12_800, 25_600, 25_600]


@pytest.mark.parametrize(
    "text", ["", ",", "h100", "h100=2", "h100=x8", "h100=0x8", "h100=1x65", "h100=-1x8", "h100=2x8,h100=1x4", "x9=1x1"]
)
def test_what_cannot_be_pretended_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        simulated_nodes(text, Catalog(), MACHINE, KEPT)
    assert refused.value.hints[0].command == "odc up --simulate h100=2x8,t4=1x4"


def test_gpus_of_two_islands_are_told_apart_and_unknown_ones_are_not() -> None:
    there = [replace(gpu, island=f"numa-{number // 3}") for number, gpu in enumerate(H100)]
    (node,) = machine_nodes(there, Catalog(), MACHINE, KEPT)
    assert node.islands == (node.gpus[:3], node.gpus[3:])
    for same in ([*there[:5], H100[5]], [replace(gpu, island="numa-0") for gpu in H100]):
        (node,) = machine_nodes(same, Catalog(), MACHINE, KEPT)
        assert node.islands == ()


def test_pretended_nodes_of_eight_gpus_have_two_islands() -> None:
    eight, four = simulated_nodes("h100=1x8,t4=1x4", Catalog(), MACHINE, KEPT)
    assert eight.islands == (eight.gpus[:4], eight.gpus[4:])
    assert four.islands == ()
    assert eight.arch == {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
