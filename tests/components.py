"""What a test may need of the machine, and whether it is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cluster import programs


def postgresql_programs() -> str | None:
    """The folder of PostgreSQL's server programs, the newest version's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return str(found[-1].parent) if found else None


def _podman() -> str:
    if os.geteuid() != 0:
        return "needs root"
    return "" if shutil.which("podman") else "podman is not installed"


def _postgresql() -> str:
    return "" if postgresql_programs() else "PostgreSQL's programs are not installed"


def _btrfs() -> str:
    if os.geteuid() != 0:
        return "needs root"
    if not shutil.which("mkfs.btrfs"):
        return "btrfs-progs is not installed"
    return "" if Path("/dev/loop-control").exists() else "there are no loop devices"


def _systemd() -> str:
    return "" if shutil.which("systemd-analyze") else "systemd-analyze is not installed"


DYNAMODB_LOCAL = Path(os.environ.get("ODC_TEST_PROGRAMS", "/var/cache/odc-test-programs")) / "dynamodb-local"
"""The folder of DynamoDB Local's jars; `scripts/setup --test` fills it."""


def _dynamodb() -> str:
    if not shutil.which("java"):
        return "Java is not installed"
    return "" if any(DYNAMODB_LOCAL.glob("DynamoDBLocal-*.jar")) else f"DynamoDB Local is not in {DYNAMODB_LOCAL}"


def _kubernetes() -> str:
    if os.geteuid() != 0:
        return "needs root"
    missing = programs.missing()
    return f"not built: {', '.join(missing)}: make cluster" if missing else ""


MISSING: dict[str, Callable[[], str]] = {
    "podman": _podman,
    "postgresql": _postgresql,
    "dynamodb": _dynamodb,
    "btrfs": _btrfs,
    "systemd": _systemd,
    "kubernetes": _kubernetes,
}
"""Marker to a function that says why the component cannot be used; empty if it can."""
