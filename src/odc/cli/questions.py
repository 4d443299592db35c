"""Questions on a terminal. Esc and Ctrl+C at any of them mean: nothing happens.

The library behind them is imported when the first question is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

POINTER = ">"


def confirm(question: str, default: bool = True) -> bool:
    """Whether the user agrees.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    return bool(_answer(_library().confirm(question, default=default)))


def select(question: str, lines: Iterable[tuple[str, Any]]) -> Any:
    """The value of the line that the user chooses by arrow keys.

    Args:
        question: what is asked.
        lines: text and value of each.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    library = _library()
    choices = [library.Choice(title=text, value=value) for text, value in lines]
    return _answer(library.select(question, choices=choices, pointer=POINTER))


def select_several(question: str, lines: Iterable[tuple[str, Any]]) -> list[Any]:
    """The values of the lines that the user marks; none may be marked.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    library = _library()
    choices = [library.Choice(title=text, value=value) for text, value in lines]
    how = "(space marks, enter ends)"
    return list(_answer(library.checkbox(question, choices=choices, pointer=POINTER, instruction=how)))


def text(question: str, default: str, fault: Callable[[str], str], tell: Callable[[str], None]) -> str:
    """What the user types; asked again, with what was typed there to be changed, until nothing is wrong with it.

    Args:
        question: what is asked.
        default: stands there to be changed.
        fault: what is wrong with an answer; empty if nothing is.
        tell: says it, however long it is.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    typed = str(_answer(_library().text(question, default=default))).strip()
    while wrong := fault(typed):
        tell(f"  {wrong}")
        typed = str(_answer(_library().text(question, default=typed))).strip()
    return typed


def _library() -> Any:
    """The library; where the terminal has no UTF-8, with marks that can be told apart there."""
    import questionary

    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        common = import_module("questionary.prompts.common")
        vars(common).update(INDICATOR_SELECTED="[x]", INDICATOR_UNSELECTED="[ ]")
    return questionary


def _answer(question: Any) -> Any:
    """The answer; Esc gives up as Ctrl+C does."""
    from prompt_toolkit.key_binding import KeyBindings, merge_key_bindings
    from prompt_toolkit.keys import Keys

    escape = KeyBindings()

    @escape.add(Keys.Escape, eager=True)
    def give_up(event: Any) -> None:
        event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    application = question.application
    application.key_bindings = merge_key_bindings([application.key_bindings or KeyBindings(), escape])
    # A lone Esc is told from an arrow key by what follows it: at once, or nothing.
    application.ttimeoutlen = 0.1
    return question.unsafe_ask()
