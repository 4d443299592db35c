"""Makes `docs/reference/lifecycle.md` from the table of the life cycle: `python -m odc.operator.lifecycle_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from odc.domain.lifecycle import TRANSITIONS, Transition, Trigger
from odc.domain.reservation import State
from odc.operator.docstrings import meanings

PAGE = Path("docs/reference/lifecycle.md")
_HEAD = """# Life cycle of a reservation

Made from `TRANSITIONS` in `src/odc/domain/lifecycle.py` by `make docs`; do not edit.

"""
_CONDITIONS = {None: "", False: "it ends for good", True: "it should be queued again"}
"""The meaning of the `requeue` value that a transition requires."""


def page() -> str:
    """The whole page."""
    return _HEAD + "\n".join((*_diagram(), "", *_states(), "", *_triggers(), "", *_transitions())) + "\n"


def _rows() -> Iterator[tuple[State, type[Trigger], Transition]]:
    for (source, trigger), transitions in TRANSITIONS.items():
        for transition in transitions:
            yield source, trigger, transition


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {State.QUEUED.name}"
    for source, trigger, transition in _rows():
        condition = _CONDITIONS[transition.requeue]
        label = trigger.__name__ + (f" [{condition}]" if condition else "")
        yield f"    {source.name} --> {transition.target.name}: {label}"
    yield f"    {State.ENDED.name} --> [*]"
    yield "```"


def _states() -> Iterator[str]:
    yield "| state | meaning |"
    yield "|---|---|"
    for name, text in meanings(State).items():
        yield f"| {name} | {text} |"


def _triggers() -> Iterator[str]:
    yield "| trigger | meaning |"
    yield "|---|---|"
    for trigger in get_args(Trigger):
        yield f"| {trigger.__name__} | {(trigger.__doc__ or '').splitlines()[0]} |"


def _transitions() -> Iterator[str]:
    yield "| from | trigger | condition | to |"
    yield "|---|---|---|---|"
    for source, trigger, transition in _rows():
        condition = _CONDITIONS[transition.requeue]
        yield f"| {source.name} | {trigger.__name__} | {condition} | {transition.target.name} |"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
