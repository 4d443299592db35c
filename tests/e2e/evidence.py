"""What a failed test leaves to be read: the daemons' logs of its time, the boxes' logs, the reservations' states."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.e2e.cloud import MADE, Cloud

MOST_LINES = 300
BOX_LINES = 40
LIMIT_S = 15.0


def log_sizes() -> dict[Path, int]:
    """How long the daemons' logs are now, by folder of the cloud; those that are gone are left out."""
    return {folder: _log(cloud).stat().st_size for folder, cloud in MADE.items() if _log(cloud).exists()}


def sections(before: dict[Path, int]) -> Iterator[tuple[str, str]]:
    """Titles and texts about each cloud that has logged something.

    Args:
        before: `log_sizes` at the start of the test.
    """
    for folder, cloud in list(MADE.items()):
        text = _since(_log(cloud), before.get(folder, 0))
        if text:
            yield f"log of the daemon of {cloud.name} during this test", text
            yield f"reservations of {cloud.name}", _attempt(_reservations, cloud)
            yield f"boxes of {cloud.name}", _attempt(_boxes, cloud)


def _log(cloud: Cloud) -> Path:
    return cloud.state / "odc.log"


def _since(log: Path, size: int) -> str:
    """What was logged after these many bytes; all of it if the log was begun again."""
    content = log.read_bytes() if log.exists() else b""
    lines = content[size if size <= len(content) else 0 :].decode(errors="replace").splitlines()
    cut = [f"… {len(lines) - MOST_LINES} earlier lines"] if len(lines) > MOST_LINES else []
    return "\n".join([*cut, *lines[-MOST_LINES:]])


def _attempt(describe: Callable[[Cloud], Iterator[str]], cloud: Cloud) -> str:
    try:
        return "\n".join(describe(cloud)) or "none"
    except (OSError, ValueError, KeyError, AssertionError, subprocess.SubprocessError) as error:
        return f"unknown: {error}"


def _reservations(cloud: Cloud) -> Iterator[str]:
    for person in cloud.people:
        done = person.gpu_dev("list", "--all", "--json", timeout=LIMIT_S)
        if done.code != 0:
            yield f"{person.name}: {done.err.strip()}"
        for view in json.loads(done.out)["reservations"] if done.code == 0 else ():
            yield f"{person.name}: {view['name']} {view['id'][:8]} {view['state']} {view.get('reason', '')}".rstrip()


def _boxes(cloud: Cloud) -> Iterator[str]:
    for box in cloud.boxes():
        yield f"{box['Names']} {box.get('State', '')}"
        yield from cloud.box_log(str(box["Id"])).splitlines()[-BOX_LINES:]
