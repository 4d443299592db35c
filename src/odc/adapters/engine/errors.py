"""The engine's answers as error classes: the only place that knows Podman's words.

    ProviderError
    ├── ProviderUnavailable
    │   ├── PlaceTaken      the port, or the addresses that belong to it, are in use
    │   ├── NameTaken       a container of this name exists already
    │   ├── EngineConflict  409: it exists already, or its state does not allow the operation
    │   └── Busy            the engine's own clean-up still holds the container's mounts
    └── ProviderRefused
        ├── ImageUnknown    no such image
        ├── NotThere        404: no such container or network
        └── NotRunnable     asking again gives the same answer, such as a broken image

Source: Podman 4.3 and 5.4, `libpod/define/errors.go` and the handlers in `pkg/api/handlers/libpod`; containers-common
and netavark for addresses; runc and crun for programs that cannot run.
"""

from __future__ import annotations

import re

from odc.domain.errors import PlaceTaken, ProviderError, ProviderRefused, ProviderUnavailable

WORDS_LIMIT = 300


class NameTaken(ProviderUnavailable):
    """A container of this name exists already. Nothing was changed."""


class EngineConflict(ProviderUnavailable):
    """The object exists already, or its state does not allow the operation. Nothing was changed."""


class Busy(ProviderUnavailable):
    """Something still uses the container's mounts; the operation may be repeated."""


class ImageUnknown(ProviderRefused):
    """The engine has no image of this name."""


class NotThere(ProviderRefused):
    """The container or network does not exist."""


class NotRunnable(ProviderRefused):
    """The container cannot be made or started, however often it is tried."""


BY_WORDS: tuple[tuple[type[ProviderError], tuple[str, ...]], ...] = (
    (
        PlaceTaken,
        (
            "address already in use",
            "cannot listen on the tcp port",
            "is already used on the host or by another config",
        ),
    ),
    (ImageUnknown, ("no such image", "image not known")),
    (NameTaken, ("is already in use by",)),
    (
        NotRunnable,
        (
            "exec format error",
            "executable file not found",
            "no such file or directory: oci",
            "attempted to invoke a command that was not found",
            "unresolvable cdi devices",
            "invalid reference format",
        ),
    ),
)
"""Class to patterns of the engine's message, in lower case, for any HTTP status. The first match wins."""

BY_STATUS: dict[int, type[ProviderError]] = {400: ProviderRefused, 404: NotThere, 409: EngineConflict}
"""Class to the status of an answer whose words are in no row of `BY_WORDS`."""

_BUSY = "busy"
_BUILD = "the operator builds the default image"


def error_of(status: int, words: str) -> ProviderError:
    """The error for an answer of the engine: by its words, else by its status, else `ProviderUnavailable`.

    Args:
        status: of the HTTP answer, 400 or more.
        words: the most specific line of the answer.
    """
    lower = words.lower()
    kind = next((kind for kind, signs in BY_WORDS if any(sign in lower for sign in signs)), None)
    if kind is None:
        kind = BY_STATUS.get(status) or (Busy if _BUSY in lower else ProviderUnavailable)
    return kind(f"the engine: {words}; {_BUILD}" if kind is ImageUnknown else f"the engine: {words}")


# The engine nests causes; these prefixes only name the place in the engine.
_WRAPPING = re.compile(
    r"^(preparing container \S+ for attach|(crun|runc)( create failed)?|unable to start container process"
    r"|error during container init|(container|failed to) create|error (creating|starting) \S+|creating \S+"
    r"|container_linux\.go:\d+|netavark( \(exit code \d+\))?|internal libpod error|OCI runtime error): "
)


def telling_line(text: str) -> str:
    """Return the last line of the engine's message without these prefixes, shortened.

    Args:
        text: a message of the engine, of any length.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    while (found := _WRAPPING.match(line)) and len(found.group()) < len(line):
        line = line[found.end() :]
    return line[:WORDS_LIMIT]
