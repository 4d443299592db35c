"""Simulated GPUs of a test cluster's nodes: a device plugin hands them out to pods as CDI devices.

A container sees the GPUs that it was given as on one machine with simulated GPUs
(`odc.adapters.engine.simulated_gpus`): /dev/simgpu0 and so on, their facts in /run/odc-gpus, and nvidia-smi.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection
from pathlib import Path

from tests.cluster import processes
from tests.cluster.layout import Layout, Node

from odc.adapters.engine.image import box_files
from odc.host import write_atomically

RESOURCE = "nvidia.com/gpu"
KIND = "odc.test/gpu"
GPUS = 4
"""Of each node."""


def ids(node: Node) -> list[str]:
    """The GPUs of a node, as the plugin names them to the kubelet."""
    return [f"GPU-{node.name}-{index}" for index in range(GPUS)]


def prepare(node: Node) -> None:
    """Write the GPUs' facts, their CDI devices and their health."""
    facts = node.folder / "gpus"
    facts.mkdir()
    # A device like /dev/null, but on a file system whose mounts the runtime can map to a pod's user namespace.
    null = facts / "null"
    os.mknod(null, stat.S_IFCHR | 0o666, Path("/dev/null").stat().st_rdev)
    null.chmod(0o666)
    smi = facts / "nvidia-smi"
    write_atomically(smi, (box_files() / "nvidia-smi-simulated").read_bytes(), 0o755)
    devices = []
    for index, gpu in enumerate(ids(node)):
        (facts / gpu).write_text(f"t4 16GB\n16384\n{gpu}\n")
        mounts = [
            {"hostPath": str(null), "containerPath": f"/dev/simgpu{index}", "options": ["bind"]},
            {"hostPath": str(facts / gpu), "containerPath": f"/run/odc-gpus/{index}", "options": ["bind", "ro"]},
        ]
        devices.append({"name": gpu, "containerEdits": {"mounts": mounts}})
    program = {"hostPath": str(smi), "containerPath": "/usr/bin/nvidia-smi", "options": ["bind", "ro"]}
    specification = {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": devices,
        "containerEdits": {"mounts": [program]},
    }
    (node.folder / "cdi" / "gpus.json").write_text(json.dumps(specification))
    set_health(node)


def set_health(node: Node, failed: Collection[str] = ()) -> None:
    """Set which GPUs have failed; the others are healthy. The kubelet knows within a second.

    Args:
        node: whose GPUs.
        failed: their ids.
    """
    lines = (f"{gpu} {'failed' if gpu in failed else 'ok'}\n" for gpu in ids(node))
    write_atomically(node.folder / "health", "".join(lines).encode(), 0o644)


def start(node: Node) -> None:
    """Start the plugin; it registers again whenever the kubelet restarts."""
    own = [f"--resource={RESOURCE}", f"--kind={KIND}", f"--devices={node.folder}/health"]
    processes.start(Layout(node.cluster), f"gpus-{node.number}", ["device-plugin", *own], node)
