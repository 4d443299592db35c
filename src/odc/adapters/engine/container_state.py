"""Maps the engine's description of a container to a box."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from odc.adapters.engine.container import container_name, delete_command
from odc.domain.box import SSH, BoxName, BoxSeen, BoxState, MemoryKills

_EXITS = {
    0: "its first process ended",
    78: "its disk was not there",
    79: "its image has no SSH server",
    137: "it was killed",
    143: "it was told to stop",
}
_STATES = {
    "created": BoxState.CREATED,
    "configured": BoxState.CREATED,
    "initialized": BoxState.CREATED,
    "running": BoxState.RUNNING,
    "paused": BoxState.RUNNING,
    "stopping": BoxState.RUNNING,
    "stopped": BoxState.EXITED,
    "removing": BoxState.EXITED,
    "exited": BoxState.EXITED,
}


def box_seen(entry: Mapping[str, Any], kills: MemoryKills | None = None) -> BoxSeen | None:
    """Return the box of one entry of the engine's list; None if its labels are not those of a box.

    Args:
        entry: as returned by the engine.
        kills: its processes that the kernel killed for memory; None if that is unknown.
    """
    labels = entry.get("Labels") or {}
    try:
        name = BoxName(labels["odc.reservation"], int(labels["odc.attempt"]), int(labels["odc.rank"]))
        units, ports = int(labels["odc.units"]), _ports(labels)
        id_base = int(labels.get("odc.id_base", "0"))
        node, gpu_type, gpus = labels["odc.node"], labels["odc.gpu_type"], labels["odc.gpus"]
    except (KeyError, ValueError):
        return None
    state = _STATES.get(str(entry.get("State", "")).lower(), BoxState.CREATED)
    code = int(entry.get("ExitCode", 0)) if state is BoxState.EXITED else None
    container = container_name(labels["odc.cloud"], name)
    return BoxSeen(
        name=name,
        uid=str(entry["Id"]),
        container=container,
        delete_command=delete_command(container),
        node=node,
        gpu_type=gpu_type,
        gpus=tuple(gpu for gpu in gpus.split(",") if gpu),
        units=units,
        state=state,
        exit_code=code,
        message="" if code is None else exit_words(code),
        address=labels.get("odc.address", ""),
        ports=ports,
        id_base=id_base,
        memory_kills=kills,
    )


def _ports(labels: Mapping[str, str]) -> dict[str, int]:
    """The published ports of a box by name. Boxes of 0.1.0 have one only, with a label of its own.

    Raises:
        KeyError, ValueError: these are not the labels of a box.
    """
    if "odc.ssh_port" in labels:
        return {SSH: int(labels["odc.ssh_port"])}
    pairs = (part.partition("=") for part in labels["odc.ports"].split(","))
    return {name: int(port) for name, _, port in pairs}


def listed(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the engine's description of one container as an entry of its list."""
    state = known["State"]
    return {
        "Id": known["Id"],
        "Labels": known["Config"].get("Labels"),
        "State": state["Status"],
        "ExitCode": state.get("ExitCode", 0),
        "Pid": state.get("Pid", 0),
    }


def exit_words(code: int) -> str:
    """Return the meaning of a box's exit code: the first process's own (`docs/box.md`), or 128 plus a signal's
    number.
    """
    return _EXITS.get(code, f"it ended with code {code}")


def is_dead(entry: Mapping[str, Any]) -> bool:
    """Whether the engine reports a box as running although its first process, and so every other, has ended."""
    return entry.get("State") == "running" and not runs(entry.get("Pid", 0))


def runs(pid: int) -> bool:
    """Whether the process exists, or the engine names none."""
    return pid <= 0 or Path(f"/proc/{pid}").exists()


def is_ending(known: Mapping[str, Any]) -> bool:
    """Whether a box has ended and the engine has not cleaned up after it: `stopped` before that, `exited` after it.

    Source: libpod's `ContainerStateStopped` and `ContainerStateExited`.

    Args:
        known: the engine's description of the box.
    """
    state = known["State"]
    dies = state_of(known) == "running" and not runs(state["Pid"]) and runs(state.get("ConmonPid", 0))
    return state_of(known) == "stopped" or dies


def state_of(known: Mapping[str, Any]) -> str:
    """Return the engine's name of the box's state."""
    return str(known["State"]["Status"]).lower()


def unframed(raw: bytes) -> bytes:
    """The log without the engine's frames: 8 bytes before each piece, the last four its length."""
    if raw[:1] not in (b"\x00", b"\x01", b"\x02"):
        return raw
    pieces, at = [], 0
    while at + 8 <= len(raw):
        length = int.from_bytes(raw[at + 4 : at + 8], "big")
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)


def layer_of(known: Mapping[str, Any]) -> Path | None:
    """Return the directory of a container's writable layer in the engine's storage; None if that is not overlay."""
    driver = known.get("GraphDriver") or {}
    return Path(driver["Data"]["UpperDir"]).parent if driver.get("Name") == "overlay" else None
