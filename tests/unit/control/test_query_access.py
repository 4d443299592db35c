"""Every query looks at its caller first: one that is added without that fails here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from tests.world import ADA, World

from odc.control.queries import Queries
from odc.domain.access import Principal
from odc.domain.errors import NotAllowed

OPEN = {
    "now": "the server's clock",
    "availability": "for every user of the machine, and names nobody",
    "version": "a number, to wait for a change of a reservation that was found before",
    "details": "of records that the caller has been given already",
}
"""Queries that any caller may ask, and why."""
ARGUMENTS: dict[str, Any] = {
    "user": "all",
    "ended": True,
    "statuses": frozenset(),
    "page": "",
    "limit": 10,
    "keep": 1,
    "owner": "",
    "disk": "",
}
QUERIES = sorted(name for name, found in vars(Queries).items() if inspect.isfunction(found) and name[0] != "_")


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in OPEN])
def test_a_uid_that_may_be_another_persons_now_is_told_nothing(name: str) -> None:
    world = World()
    question = getattr(world.queries, name)
    known = ARGUMENTS | {
        "caller": Principal(id=ADA.id, user="mallory"),
        "reference": world.reserve(ADA, disk="proj").id,
    }
    with pytest.raises(NotAllowed):
        question(**{parameter: known[parameter] for parameter in inspect.signature(question).parameters})


def test_the_list_of_open_queries_names_no_other() -> None:
    assert set(OPEN) <= set(QUERIES)
