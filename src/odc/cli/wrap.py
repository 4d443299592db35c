"""Wraps long lines at word boundaries and aligns continuations under their column. Pure.

A command or an address is never wrapped: it has a line of its own and can be pasted, even if the terminal breaks it.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_GAP = re.compile(r"( {2,})")
_TO_PASTE = re.compile(
    r"(?P<before>(?:.*?: )?)(?P<paste>(?:sudo )?(?:gpu-dev|odc|ssh|ssh-add|ssh-keygen) .*|\S+://\S+)"
)
_WORD = re.compile(r"\([^()]{1,24}\)\S*|\S+")
_LABEL_AND_FACT = 3
_OF_A_HISTORY = re.compile(r"\d\d:\d\d:\d\d {2,}\S+ {2,}")
INDENT = 2


def plain(text: str) -> str:
    """Return the text without colours."""
    return _ESCAPE.sub("", text)


def wrap_line(text: str, width: int) -> list[str]:
    """Return the text as lines of at most this width, as far as its words and commands allow.

    What follows a gap in the line, such as a fact behind its name, continues under itself where there is room for it,
    and so does an event of a history behind its time and its actor; a headline of several facts continues a step to the
    right. A fact that has room on a line of its own is not broken.
    """
    if len(plain(text)) <= width:
        return [text]
    indent = len(text) - len(text.lstrip(" "))
    parts = _GAP.split(text[indent:])
    margin = indent + INDENT
    if len(parts) == _LABEL_AND_FACT or (indent and len(parts) > 1):
        column = indent + len(plain(parts[0] + parts[1]))
        margin = column if column <= width // 2 else margin
    elif (start := _OF_A_HISTORY.match(plain(text))) and start.end() <= width // 2:
        margin = start.end()
    lines = [" " * indent]
    for gap, part in zip(["", *parts[1::2]], parts[::2], strict=True):
        for number, word in enumerate(_words(part, width - margin)):
            _append(lines, gap if number == 0 else " ", word, margin, width)
    return lines


def _words(part: str, room: int) -> list[str]:
    """Return the parts that are not broken: a fact that fits; else words and short asides in brackets, or a whole
    command or address, with the words before it.
    """
    if 0 < len(plain(part)) <= room:
        return [part]
    found = _TO_PASTE.fullmatch(part)
    return [*found["before"].split(), found["paste"]] if found else _WORD.findall(part)


def _append(lines: list[str], gap: str, word: str, margin: int, width: int) -> None:
    """Put a word at the end of the last line, or on the next one."""
    if not lines[-1].strip():
        lines[-1] += word
    elif len(plain(lines[-1] + gap + word)) <= width:
        lines[-1] += gap + word
    else:
        fits = margin + len(plain(word)) <= width
        lines.append(" " * (margin if fits else min(margin, INDENT)) + word)
