"""The text of problems: every kind has one, and it names what an operator has to look for."""

from __future__ import annotations

import pytest

from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import is_known, problem_text, wording

ID = "0123456789abcdef0123456789abcdef"
FULL = {
    "reservation": ID,
    "name": "train",
    "user": "ada",
    "login": "eve",
    "uid": 1000,
    "node": "node-1",
    "box": f"{ID}-2-0",
    "container": "odc-lab-box",
    "command": "delete odc-lab-box",
    "disk": ID,
    "gpu": "GPU-1",
    "gpu_type": "t4",
    "image": "odc/box:1",
    "address": "192.0.2.7",
    "path": "/etc/file",
    "count": 3,
    "seconds": 300.0,
    "free_bytes": 2**30,
    "total_bytes": 2**40,
    "detail": "no answer",
}


@pytest.mark.parametrize("kind", list(ProblemKind))
def test_every_kind_has_a_text_without_a_whole_id(kind: ProblemKind) -> None:
    assert is_known(kind)
    text, hints = wording(Problem(kind=kind, **FULL))  # type: ignore[arg-type]
    assert text
    assert ID not in text
    assert all(hint.label and hint.command for hint in hints)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (
            ProblemKind.NODE_GONE,
            "node node-1 of reservation train (01234567) of ada is not in this cloud any more; its box is left alone; "
            "end it: gpu-dev cancel 01234567",
        ),
        (
            ProblemKind.BOX_QUARANTINED,
            "box 01234567-2-0 is quarantined, a later attempt than the record of reservation train (01234567) of ada "
            "has, and holds 3 t4 of node-1; save what is in it, then: delete odc-lab-box",
        ),
        (
            ProblemKind.STORAGE_LOW,
            "the disk storage is nearly full, 1 GiB of 1024 GiB free: act now; who uses it: sudo odc disk list",
        ),
        (
            ProblemKind.LOGIN_CHANGED,
            "uid 1000 was ada and is eve now, whose requests are refused; the same person: odc user move 1000 eve; "
            "another person: odc user forget 1000",
        ),
    ],
)
def test_a_text_names_the_reservation_and_the_command(kind: ProblemKind, line: str) -> None:
    assert problem_text(Problem(kind=kind, **FULL)) == line  # type: ignore[arg-type]


def test_a_kind_of_a_newer_version_is_shown_with_its_detail() -> None:
    assert problem_text(Problem(kind=ProblemKind("melted"), detail="the node has melted")) == "the node has melted"
