"""Whether the engine shows the layers of one image to boxes with different ranges of host ids.

It does by idmapped mounts below overlayfs. Without them it copies the whole image for each range.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEAST_KERNEL = (5, 19)
"""The first kernel whose overlayfs takes idmapped layers. Source: Linux 5.19, `fs/overlayfs/super.c`."""
LEAST_PODMAN = (4, 2)
"""The first Podman that uses them. Source: containers/storage 1.42, `drivers/overlay/idmapped_utils.go`."""


def why_layers_are_copied(engine: Mapping[str, Any], release: str | None = None) -> str:
    """Return why the engine cannot map layers; empty if it can, as far as their file system allows.

    Args:
        engine: what Podman's `info` says.
        release: of the kernel; None: of this one.
    """
    release = os.uname().release if release is None else release
    if _version(release) < LEAST_KERNEL:
        return f"the kernel {release} is older than {_text(LEAST_KERNEL)}"
    version = str(engine.get("version", {}).get("Version", ""))
    if _version(version) < LEAST_PODMAN:
        return f"Podman {version or '(of unknown version)'} is older than {_text(LEAST_PODMAN)}"
    driver = str(engine.get("store", {}).get("graphDriverName"))
    return "" if driver == "overlay" else f"the engine keeps images with {driver}, not overlay"


def layers_folder(engine: Mapping[str, Any]) -> Path:
    """Return the folder of the engine's image layers.

    Args:
        engine: what Podman's `info` says.
    """
    return Path(engine.get("store", {}).get("graphRoot", "/"))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
