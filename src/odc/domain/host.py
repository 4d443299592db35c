"""What a check of the host found: whether users reach their boxes, and what new boxes need."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check.

    Attributes:
        reachable: uids of the boxes whose SSH answered at their published port.
        unreachable: box uid to the cause, of the boxes that users cannot reach now.
        repaired: what was missing on the host and was put back, as sentences.
        problems: what is still wrong on the host, as sentences.
        blocked: why no box may be started now; empty if boxes may.
        missing_image: the image of boxes, if the engine does not have it any more; empty if it has.
        taken_ports: the given SSH ports at which other programs listen.
    """

    reachable: frozenset[str] = frozenset()
    unreachable: Mapping[str, str] = {}
    repaired: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    blocked: str = ""
    missing_image: str = ""
    taken_ports: frozenset[int] = frozenset()
