"""The system's storage programs, run by lists of words, with their failures turned into ODC's errors."""

from __future__ import annotations

import subprocess

from odc.domain.errors import ProviderRefused, ProviderUnavailable

LIMIT_S = 3600.0


def run(*command: str, limit_s: float = LIMIT_S) -> str:
    """What the program prints.

    Raises:
        ProviderRefused: it is not installed.
        ProviderUnavailable: it failed, with its last words, or did not end in time.
    """
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit_s)
    except FileNotFoundError as error:
        raise ProviderRefused(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ProviderUnavailable(f"{command[0]} did not end within {limit_s:g} s") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise ProviderUnavailable(f"{command[0]} failed: {words[-1]}")
    return done.stdout.decode(errors="replace")
