"""Questions on a terminal. Esc and Ctrl+C at any of them mean: nothing happens.

The library behind them is imported when the first question is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

from odc.cli.ascii import is_utf8, to_ascii

POINTER = ">"
_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}


class Line(NamedTuple):
    """One choice of a menu.

    Attributes:
        text: the label.
        value: the value that choosing it returns.
        taken: why it cannot be chosen; empty if it can.
    """

    text: str
    value: Any
    taken: str = ""


def confirm(question: str, default: bool = True) -> bool:
    """Ask a yes-or-no question: y or n and Enter, or Enter alone for the default. Any other answer is asked again.

    A whole line is read: further keys after the first would otherwise answer the next question.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    library = _library()
    how = "(Y/n)" if default else "(y/N)"
    asked = question
    while True:
        typed = str(_answer(library.text(_fit(f"{asked} {how}")))).strip().lower()
        if typed in _ANSWERS:
            return _ANSWERS[typed]
        if not typed:
            return default
        asked = f"Please answer y or n. {question}"


def select(question: str, lines: Iterable[tuple[str, Any] | Line]) -> Any:
    """Return the value that the user chooses by arrow keys; taken lines cannot be chosen.

    Args:
        question: what is asked.
        lines: text and value of each.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    library = _library()
    choices = [
        library.Choice(title=_fit(line.text), value=line.value, disabled=_fit(line.taken) or None)
        for line in (Line(*parts) for parts in lines)
    ]
    return _answer(library.select(_fit(question), choices=choices, pointer=POINTER))


def select_several(question: str, lines: Iterable[tuple[str, Any]]) -> list[Any]:
    """Return the values of the lines that the user marks; may be empty.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    library = _library()
    choices = [library.Choice(title=_fit(text), value=value) for text, value in lines]
    how = "(space marks, enter ends)"
    return list(_answer(library.checkbox(_fit(question), choices=choices, pointer=POINTER, instruction=how)))


def text(
    question: str, fault: Callable[[str], str], tell: Callable[[str], None], default: str = "", keep: bool = False
) -> str:
    """Return the text that the user types; ask again until it is valid.

    Args:
        question: what is asked.
        fault: what is wrong with an answer; empty if nothing is.
        tell: prints the fault in full.
        default: the answer for Enter alone; shown next to the question, and not part of the typed text.
        keep: leave an invalid answer in place to be edited, for long answers.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    library = _library()
    asked = f"{question} (default: {default})" if default else question
    typed = ""
    while True:
        answer = _answer(library.text(_fit(asked), default=typed if keep else ""))
        typed = str(answer).strip() or default
        wrong = fault(typed)
        if not wrong:
            return typed
        tell(f"  {wrong}")


def _fit(text: str) -> str:
    """Return the text in characters that this terminal can show."""
    return text if is_utf8(sys.stdout.encoding) else to_ascii(text)


def _library() -> Any:
    """Return the prompt library, with ASCII marks where the terminal has no UTF-8."""
    import questionary

    if not is_utf8(sys.stdout.encoding):
        common = import_module("questionary.prompts.common")
        vars(common).update(INDICATOR_SELECTED="[x]", INDICATOR_UNSELECTED="[ ]")
    return questionary


def _answer(question: Any) -> Any:
    """Return the answer; Esc aborts as Ctrl+C does."""
    from prompt_toolkit.key_binding import KeyBindings, merge_key_bindings
    from prompt_toolkit.keys import Keys

    escape = KeyBindings()

    @escape.add(Keys.Escape, eager=True)
    def give_up(event: Any) -> None:
        event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    application = question.application
    application.key_bindings = merge_key_bindings([application.key_bindings or KeyBindings(), escape])
    # An arrow key sends Esc and more bytes at once; a lone Esc is followed by nothing.
    application.ttimeoutlen = 0.1
    return question.unsafe_ask()
