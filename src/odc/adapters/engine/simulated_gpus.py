"""Simulated GPUs as CDI devices, so that the engine hands them out for real: a box sees only those that it holds.

Source: the Container Device Interface specification, version 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from odc.domain.catalog import Catalog
from odc.domain.node import Node
from odc.host import write_atomically

CDI_FOLDER = Path("/etc/cdi")


def facts_file(state: Path, gpu: str) -> Path:
    """The file with the facts of a simulated GPU, which only boxes with this GPU see; one for each state folder."""
    return state / "gpus" / gpu


def device_kind(cloud: str) -> str:
    """The CDI kind of a cloud's simulated GPUs."""
    return f"odc.{cloud}/simulated-gpu"


def write_devices(cloud: str, nodes: Iterable[Node], catalog: Catalog, state: Path, smi: Path) -> Path:
    """Describe every simulated GPU to the engine. Repeatable. Without any GPU, no description is left.

    Args:
        cloud: the cloud's name.
        nodes: simulated nodes.
        catalog: gives the memory of each type.
        state: folder in which each GPU's facts are written.
        smi: the program that boxes run as `nvidia-smi`.

    Returns:
        The specification's file, to be deleted with the cloud."""
    (state / "gpus").mkdir(parents=True, exist_ok=True)
    devices = []
    for node in nodes:
        memory_mib = catalog.get_type(node.gpu_type).gpu_memory_gib * 1024
        for index, gpu in enumerate(node.gpus):
            # In place: running boxes have this file mounted.
            facts_file(state, gpu).write_text(f"{node.gpu_type} {memory_mib // 1024}GB\n{memory_mib}\n{gpu}\n")
            mounts = [
                {"hostPath": "/dev/null", "containerPath": f"/dev/simgpu{index}", "options": ["bind"]},
                {
                    "hostPath": str(facts_file(state, gpu)),
                    "containerPath": f"/run/odc-gpus/{index}",
                    "options": ["bind", "ro"],
                },
            ]
            devices.append({"name": gpu, "containerEdits": {"mounts": mounts}})
    path = devices_file(cloud)
    if not devices:
        # A description without devices is invalid, and the engine would warn with every box.
        path.unlink(missing_ok=True)
        return path
    program = {"hostPath": str(smi), "containerPath": "/usr/bin/nvidia-smi", "options": ["bind", "ro"]}
    specification = {
        "cdiVersion": "0.5.0",
        "kind": device_kind(cloud),
        "devices": devices,
        "containerEdits": {"mounts": [program]},
    }
    CDI_FOLDER.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(specification).encode(), 0o644)
    return path


def devices_file(cloud: str) -> Path:
    """The CDI specification of a cloud's simulated GPUs."""
    return CDI_FOLDER / f"odc-{cloud}-simulated.json"
