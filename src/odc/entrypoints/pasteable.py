"""Commands that an operator's screen names, so that they reach the cloud that it is about."""

from __future__ import annotations

import shlex

from odc.entrypoints.settings import DEFAULT_SOCKET, Settings


def gpu_dev(settings: Settings) -> str:
    """`gpu-dev` for this cloud: with its address, unless it is where `gpu-dev` looks by itself."""
    if settings.socket == DEFAULT_SOCKET:
        return "gpu-dev"
    return f"gpu-dev --endpoint {shlex.quote(f'unix://{settings.socket}')}"
