"""Commands that an operator's screen names, so that they reach the cloud that it is about."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from odc.api.client import settings_note
from odc.cli.output import OPERATORS_COMMAND
from odc.operator.settings import DEFAULT_FILE, DEFAULT_SOCKET, Settings


def pasteable(text: str) -> str:
    """The text with the settings file that was typed in every command of ours: they are meant for the same cloud."""
    words = sys.argv[1:]
    if "--config" not in words[:-1]:
        return text
    file = shlex.quote(words[words.index("--config") + 1])
    return OPERATORS_COMMAND.sub(lambda _: f"odc --config {file} ", text)


def note_settings_file(settings: Settings, file: Path | None) -> None:
    """Note beside the socket which settings file the cloud has: `gpu-dev` says how it is started when it is down.

    Args:
        settings: of the cloud.
        file: None for the usual place, which need not be said.
    """
    note = settings_note(settings.socket)
    if file is None or file == DEFAULT_FILE:
        note.unlink(missing_ok=True)
        return
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    fresh = note.with_name(f"{note.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as writer:
        writer.write(f"{file}\n")
    fresh.replace(note)


def gpu_dev(settings: Settings) -> str:
    """`gpu-dev` for this cloud: with its address, unless it is where `gpu-dev` looks by itself."""
    if settings.socket == DEFAULT_SOCKET:
        return "gpu-dev"
    return f"gpu-dev --endpoint {shlex.quote(f'unix://{settings.socket}')}"
