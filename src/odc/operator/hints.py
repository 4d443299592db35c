"""Commands in the operator's output, with the options that address the right cloud."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import msgspec

from odc.api.connectors import settings_note
from odc.domain.commands import Program, parts_of, typed
from odc.host import write_atomically
from odc.operator.settings import DEFAULT_FILE, DEFAULT_SOCKET, Settings


def typed_here(text: str) -> str:
    """Return a text with each of our commands as it is typed for this cloud.

    `odc` gets the settings file that was typed, `gpu-dev` the address that the settings name.
    """
    if not any(part.program for part in parts_of(text)):
        return text
    file = _typed_file()
    odc = f"odc --config {shlex.quote(file)}" if file else "odc"
    gpu_dev = _gpu_dev(_socket_in(Path(file) if file else DEFAULT_FILE))
    return typed(text, {Program.ODC: odc, Program.GPU_DEV: gpu_dev})


def _socket_in(file: Path) -> str:
    """Return the socket in a settings file, even if other settings in it are invalid."""
    try:
        socket = msgspec.toml.decode(file.read_bytes(), type=dict[str, object]).get("socket")
    except (OSError, ValueError):
        return DEFAULT_SOCKET
    return socket if isinstance(socket, str) else DEFAULT_SOCKET


def _typed_file() -> str:
    """Return the settings file on the command line; empty for the default."""
    words = sys.argv[1:]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return ""


def note_settings_file(settings: Settings, file: Path | None) -> None:
    """Record the cloud's settings file next to the socket: `gpu-dev` shows the command that starts a stopped cloud.

    Args:
        settings: of the cloud.
        file: None for the usual file.
    """
    note = settings_note(settings.socket)
    file = file or DEFAULT_FILE
    if file == DEFAULT_FILE and settings.socket == DEFAULT_SOCKET:
        note.unlink(missing_ok=True)
        return
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    write_atomically(note, f"{file}\n".encode(), 0o644)


def gpu_dev(settings: Settings) -> str:
    """Return `gpu-dev` for this cloud: with its address, unless that is the default."""
    return _gpu_dev(settings.socket)


def _gpu_dev(socket: str) -> str:
    return "gpu-dev" if socket == DEFAULT_SOCKET else f"gpu-dev --endpoint {shlex.quote(f'unix://{socket}')}"
