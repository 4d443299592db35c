"""The terminal as a port: what it can show, tables, colour with meaning, errors. Light: nothing is imported to draw.

Piped output is plain: the same facts, no colour, no redraw, nothing cut.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

import msgspec

from odc.domain.errors import OdcError

_CODES = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
GAP = "  "


@dataclass(frozen=True)
class Output:
    """Where people look.

    Attributes:
        out: what was asked for.
        err: what went wrong, and progress.
        colour: whether `out` shows colours.
        width: columns of the terminal; None when piped: nothing is cut.
        live: whether `out` is a terminal that can be redrawn.
        asks: whether questions can be asked: both ends are terminals.
    """

    out: TextIO
    err: TextIO
    colour: bool = False
    width: int | None = None
    live: bool = False
    asks: bool = False

    def line(self, text: str = "") -> None:
        """One line of what was asked for."""
        self.out.write(self._fit(text) + "\n")
        self.out.flush()

    def lines(self, texts: Iterable[str]) -> None:
        """Several."""
        for text in texts:
            self.line(text)

    def note(self, text: str) -> None:
        """One line beside: it does not belong to the answer."""
        self.err.write(self._fit(text) + "\n")
        self.err.flush()

    def json(self, value: object) -> None:
        """The answer for scripts."""
        self.out.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
        self.out.flush()

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, where colours are shown."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colour and colour and text else text

    def redraw(self, lines: Sequence[str], before: int) -> int:
        """Replace the last `before` lines by these; how many stand there now."""
        if before:
            self.out.write(f"\x1b[{before}F\x1b[J")
        self.lines(lines)
        return len(lines)

    def error(self, error: OdcError, as_json: bool) -> None:
        """An error, with what to do next."""
        if as_json:
            first = error.hints[0].command if error.hints else ""
            view = {"error": type(error).__name__, "message": error.message, "hint": first}
            self.err.write(msgspec.json.encode(view).decode() + "\n")
            return
        self.note(self.paint("error: ", "red") + error.message)
        width = max((len(hint.label) for hint in error.hints), default=0)
        for hint in error.hints:
            self.note(f"  {hint.label:<{width}}   {hint.command}")

    def _fit(self, text: str) -> str:
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        return text.encode(encoding, errors="replace").decode(encoding)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
        """Aligned columns under a header; on a narrow terminal the last columns give way first.

        Args:
            header: column titles.
            rows: cells; they may carry colours.
        """
        cells = [list(header), *(list(row) for row in rows)]
        count = len(header)
        while count > 1 and self.width is not None and _width(cells, count) > self.width:
            count -= 1
        widths = [max(len(plain(row[index])) for row in cells) for index in range(count)]
        lines = []
        for number, row in enumerate(cells):
            parts = [cell + " " * (widths[i] - len(plain(cell))) for i, cell in enumerate(row[:count])]
            line = GAP.join(parts).rstrip()
            lines.append(self.paint(line, "dim") if number == 0 else line)
        return lines


def plain(text: str) -> str:
    """The text without colours."""
    return _ESCAPE.sub("", text)


def _width(cells: Sequence[Sequence[str]], count: int) -> int:
    return sum(max(len(plain(row[index])) for row in cells) for index in range(count)) + len(GAP) * (count - 1)


def standard_output(no_colour: bool, term: str) -> Output:
    """The process's own terminal or pipe.

    Args:
        no_colour: the user wants none (`NO_COLOR`).
        term: the terminal's kind (`TERM`).
    """
    is_terminal = sys.stdout.isatty()
    width = None
    if is_terminal:
        import shutil

        width = shutil.get_terminal_size().columns
    return Output(
        out=sys.stdout,
        err=sys.stderr,
        colour=is_terminal and not no_colour and term != "dumb",
        width=width,
        live=is_terminal and term != "dumb",
        asks=is_terminal and sys.stdin.isatty(),
    )
