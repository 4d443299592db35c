"""Limits of the kernel that all boxes share, raised on the host so that no box can use up what the others need.

The kernel counts many things for the user who made a user namespace (root, for every box) or for the whole machine, and
some by host user, which boxes share where they cannot have ids of their own (`domain/host_ids.py`). The resources
listed here use memory that the kernel charges to the box (its memory cgroup): with a high count, the box's own memory
limit applies first. Resources that are not charged to the box are limited in other ways (terminals by the box's own
mount, keys and connections by rules).

A limit is only raised, never lowered. Its previous value is stored in a file that a reboot deletes, as it resets the
limits; the last cloud of the machine restores it, unless it was changed meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from odc.host import locked, write_atomically

log = logging.getLogger(__name__)

NOTED = Path("/run/odc/kernel-limits.json")
SYSTEM = Path("/proc/sys")
TERMINALS = 256
"""Terminals of one box, where the kernel has enough."""
CONNECTIONS = 2**17
"""Unanswered and closed connections that a box can have at its highest rate (see `firewall`): the kernel keeps them for
two minutes. Its table must have room for all boxes."""
_INT = 2**31 - 1
_LONG = 2**63 - 1
_MUCH = 2**40
_UNLIMITED_AT_ZERO = frozenset({"fs.pipe-user-pages-soft"})


class _Noted(msgspec.Struct, frozen=True):
    """A raised limit: its previous and its new value."""

    before: int
    raised: int


def wanted_limits(boxes: int) -> dict[str, int]:
    """Return the lowest acceptable value of each limit, by name.

    Args:
        boxes: that may run at once on this machine.
    """
    return {
        # Charged to the box: instances, watches and pinned inodes; epoll entries; rings of aio; open files; pipes;
        # TCP sockets that are closed and have not sent everything yet.
        "fs.inotify.max_user_instances": _INT,
        "fs.inotify.max_user_watches": _INT,
        "fs.epoll.max_user_watches": _MUCH,
        "fs.aio-max-nr": _MUCH,
        "fs.file-max": _LONG,
        "fs.pipe-user-pages-soft": 0,
        "net.ipv4.tcp_max_orphans": _INT,
        # The runtime needs a key for each box that it starts; boxes themselves may not make any.
        "kernel.keys.maxkeys": 20_000,
        "kernel.keys.maxbytes": 2_000_000,
        # Each box has a limit of its own; these leave enough for all of them and the host.
        "kernel.pty.max": 4096 + TERMINALS * boxes * 4 // 3,
        "kernel.pid_max": 2**22,
        "net.netfilter.nf_conntrack_max": 2**18 + CONNECTIONS * boxes,
        "net.ipv4.neigh.default.gc_thresh2": 4096,
        "net.ipv4.neigh.default.gc_thresh3": 8192,
    }


def low_limits(wanted: Mapping[str, int], system: Path = SYSTEM) -> dict[str, tuple[int, int]]:
    """Return the limits that are lower than wanted, by name: the current and the wanted value."""
    found = {name: _read(name, system) for name in wanted}
    return {
        name: (value, wanted[name])
        for name, value in found.items()
        if value is not None and _is_less(name, value, wanted[name])
    }


def raise_limits(wanted: Mapping[str, int], noted: Path = NOTED, system: Path = SYSTEM) -> dict[str, tuple[int, int]]:
    """Raise the limits that are lower. Repeatable, also by several clouds at once. A limit that cannot be written is
    left, with a warning.

    Args:
        wanted: by name.
        noted: the machine's file of previous values; created with its folder if needed.
        system: where the kernel shows its settings.

    Returns:
        The raised limits, by name: from and to.
    """
    low = low_limits(wanted, system)
    if not low:
        return {}
    raised = {}
    with _locked(noted):
        known = _noted(noted)
        # Write the note first: after a crash in between, every change can still be undone.
        for name, (value, target) in low.items():
            earlier = known.get(name)
            # Raised before, for fewer boxes: the first value counts. Otherwise somebody has set it since.
            before = earlier.before if earlier is not None and earlier.raised == value else value
            known[name] = _Noted(before, target)
        _note(noted, known)
        for name, (value, target) in low.items():
            if _write(name, target, system):
                raised[name] = (value, target)
    if raised:
        log.info("kernel limits raised", extra={"limits": {name: list(pair) for name, pair in raised.items()}})
    return raised


def raised_limits(wanted: Mapping[str, int], noted: Path = NOTED, system: Path = SYSTEM) -> tuple[str, ...]:
    """Return the names of the wanted limits that a cloud of this machine has raised and nobody has changed since."""
    known = _noted(noted)
    return tuple(name for name in wanted if name in known and _read(name, system) == known[name].raised)


def restore_limits(noted: Path = NOTED, system: Path = SYSTEM) -> None:
    """Restore the raised limits, except those changed since. No cloud of the machine may be left."""
    if not noted.exists():
        return
    with _locked(noted):
        for name, limit in _noted(noted).items():
            if _read(name, system) == limit.raised:
                _write(name, limit.before, system)
        noted.unlink(missing_ok=True)


def terminals_of_a_box(boxes: int, system: Path = SYSTEM) -> int:
    """Return how many terminals a box may have: all boxes together leave a quarter, and the kernel's reserve, to the
    host.

    Args:
        boxes: that may run at once on this machine.
        system: where the kernel shows its settings.
    """
    most = (_read("kernel.pty.max", system) or 4096) - (_read("kernel.pty.reserve", system) or 0)
    return max(min(most * 3 // 4 // max(boxes, 1), TERMINALS), 8)


def _is_less(name: str, value: int, wanted: int) -> bool:
    if name in _UNLIMITED_AT_ZERO:
        return value != 0
    return value < wanted


def _file(name: str, system: Path) -> Path:
    return system.joinpath(*name.split("."))


def _read(name: str, system: Path) -> int | None:
    """Return the limit; None if the kernel has none of this name, or it cannot be read."""
    try:
        return int(_file(name, system).read_text())
    except (OSError, ValueError):
        return None


def _write(name: str, value: int, system: Path) -> bool:
    try:
        _file(name, system).write_text(str(value))
    except OSError as error:
        log.warning("the kernel limit %s stays: %s", name, error.strerror)
        return False
    return True


@contextlib.contextmanager
def _locked(noted: Path) -> Iterator[None]:
    noted.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    with locked(noted.with_suffix(".lock")):
        yield


def _noted(path: Path) -> dict[str, _Noted]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Noted])
    except (OSError, msgspec.MsgspecError):
        return {}


def _note(path: Path, limits: Mapping[str, _Noted]) -> None:
    write_atomically(path, msgspec.json.encode(limits), 0o644)
