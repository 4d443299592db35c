"""Reads the machine's CDI files: whether the engine can pass a real GPU to a box.

Source: the Container Device Interface specification; `nvidia-ctk cdi generate` writes JSON or YAML, of which only the
paths and the GPUs' UUIDs are read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
GENERATE = "sudo nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml"
_LIBRARY = re.compile(r"""hostPath"?\s*:\s*"?([^\s"',}]+\.so[^\s"',}]*)""")


def undescribed(gpus: Iterable[str], folders: Iterable[Path] = FOLDERS) -> dict[str, str]:
    """Return GPU to the cause, for GPUs that the engine cannot pass to a box.

    Args:
        gpus: by UUID.
        folders: where CDI files are.
    """
    texts = list(_descriptions(folders))
    whole = "".join(texts)
    stale = _missing_library(texts)
    found = {}
    for gpu in gpus:
        if gpu not in whole:
            found[gpu] = f"no CDI file describes it to the engine; run: {GENERATE}"
        elif stale:
            found[gpu] = f"its CDI file is older than the driver: {stale} is not there; run: {GENERATE}"
    return found


def _descriptions(folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        for path in sorted(folder.glob("*nvidia*")):
            try:
                yield path.read_text(errors="replace")
            except OSError:
                continue


def _missing_library(texts: Iterable[str]) -> str:
    """Return a library that a description mounts and that is missing, as after an upgrade of the driver; empty if there
    is none.
    """
    paths = (path for text in texts for path in _LIBRARY.findall(text))
    return next((path for path in paths if not Path(path).exists()), "")
