"""The result of a check of the host: whether users reach their boxes, and whether new boxes can start."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from odc.domain.problem import Problem


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check.

    Attributes:
        reachable: uids of the boxes whose SSH answered at their published port.
        unreachable: box uid to the cause, of the boxes that users cannot reach now.
        repaired: parts of the host's setup that were missing and were restored.
        problems: remaining faults of the host.
        blocked: why no box may be started now; empty if boxes may.
        files_lost: uids of boxes whose files the cluster does not have any more: they are written again.
        missing_image: the image of boxes, if the engine has lost it; empty if it has it.
    """

    reachable: frozenset[str] = frozenset()
    unreachable: Mapping[str, str] = {}
    repaired: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()
    blocked: str = ""
    files_lost: frozenset[str] = frozenset()
    missing_image: str = ""
