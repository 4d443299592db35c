"""From `gpu-dev reserve` to a first login over ssh, beside the same from a bare `podman run` of the same image.

Both ends are the user's own: the clock starts before the command and stops when `ssh … true` has succeeded. The bare
container gets a published port, sshd with a host key that is there already, and no GPU, limits, network or user
namespace of its own. The reservation is for the whole machine: on a small one, the share of a single GPU of eight
would be what is measured.
"""

from __future__ import annotations

import shutil
import time

from bench.cloud import ADDRESS, BARE_PORT, IMAGE, BenchCloud, run
from bench.measuring import in_turns, milliseconds
from bench.table import Row

TURNS = 11
SETTLE_S = 1.0
"""The kernel takes a container's network and mounts away after the command has ended; the next figure must not pay."""
BARE = "odc-bench-bare"
SSHD = "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -h /keys/host -o AuthorizedKeysFile=/keys/authorized_keys"


def rows(cloud: BenchCloud) -> list[Row]:
    """Without a disk, and with one that is there already; both beside the bare container, in turns."""
    _make_bare_keys(cloud)
    took = in_turns(
        {
            "floor": lambda: _bare(cloud),
            "no disk": lambda: _reserved(cloud, "none"),
            "disk": lambda: _reserved(cloud, "bench"),
        },
        TURNS,
    )
    floor = took["floor"]
    note = "floor: podman run of the same image, sshd, first ssh"
    return [
        Row("reserve to ssh, no disk", "ms", took["no disk"], 1.3, floor=floor, of_floor=True, note=note),
        Row("reserve to ssh, own disk", "ms", took["disk"], 1.25, floor=floor, of_floor=True, note=note),
    ]


def _reserved(cloud: BenchCloud, disk: str) -> float:
    """One reservation, in ms; it has ended again when this returns."""
    name = "started"

    def work() -> None:
        cloud.run(
            "gpu-dev", "reserve", "-t", "h100", "-g", "1", "-h", "1", "-n", name, "--disk", disk, "--yes", "--wait"
        )
        (config,) = cloud.folder.glob(".gpu-dev/*-sshconfig")
        cloud.await_login("-F", str(config), name)

    took = milliseconds(work)
    cloud.end(name)
    time.sleep(SETTLE_S)
    return took


def _make_bare_keys(cloud: BenchCloud) -> None:
    folder = cloud.folder / "bare"
    folder.mkdir(mode=0o755)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"])
    shutil.copy(f"{cloud.key}.pub", folder / "authorized_keys")
    (folder / "authorized_keys").chmod(0o644)


def _bare(cloud: BenchCloud) -> float:
    """One bare container, in ms; it is gone when this returns."""
    command = ["podman", "run", "--detach", "--replace", "--name", BARE, "--publish", f"{ADDRESS}:{BARE_PORT}:22"]
    command += ["--volume", f"{cloud.folder}/bare:/keys:ro", "--user", "0", "--entrypoint", "/bin/sh", IMAGE]
    known = ("-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")

    def work() -> None:
        run([*command, "-c", SSHD], _engine(cloud))
        cloud.await_login(*known, "-p", str(BARE_PORT), f"dev@{ADDRESS}")

    try:
        took = milliseconds(work)
    finally:
        run(["podman", "rm", "--force", "--time", "0", "--ignore", BARE], _engine(cloud))
    time.sleep(SETTLE_S)
    return took


def _engine(cloud: BenchCloud) -> dict[str, str]:
    """The engine's settings that the cloud uses: the same runtime for both."""
    return {**cloud.environment, "CONTAINERS_CONF": str(cloud.folder / "state/engine/containers.conf")}
