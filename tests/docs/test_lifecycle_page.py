"""The page about the life cycle is the table of the state machine."""

from __future__ import annotations

from pathlib import Path

from odc.domain.lifecycle import TRANSITIONS
from odc.domain.reservation import State
from odc.operator.docstrings import meanings
from odc.operator.lifecycle_page import PAGE, page

ROOT = Path(__file__).parents[2]


def test_the_lifecycle_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: make docs"


def test_every_transition_is_an_arrow_and_every_state_has_a_meaning() -> None:
    arrows = page().count(" --> ") - 2
    assert arrows == sum(len(transitions) for transitions in TRANSITIONS.values())
    assert list(meanings(State)) == [state.name for state in State]
