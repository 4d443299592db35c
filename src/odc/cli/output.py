"""The terminal as a port: what it can show, tables, colour with meaning, errors. Light: nothing is imported to draw.

Piped output is plain: the same facts, no colour, no redraw, nothing cut. Text from a server cannot control the
terminal: control characters are shown as `?`, and only our own colours pass.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

import msgspec

from odc.cli.ascii import escaped, is_utf8, to_ascii
from odc.cli.unwritten import STANDARD_OUTPUT
from odc.cli.wrap import plain, wrap_line
from odc.domain.commands import Program, parts_of, typed
from odc.domain.errors import OdcError

_CODES = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}
_OURS = re.compile("|".join(re.escape(f"\x1b[{code}m") for code in (*_CODES.values(), "0")))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
GAP = "  "
NO_GPUS = "(no GPUs)"


@dataclass(frozen=True)
class Output:
    """The terminal of one command.

    Attributes:
        out: standard output, for the answer.
        err: standard error, for errors, notes and progress.
        colour: whether `out` shows colours.
        width: columns of the terminal; None when piped: nothing is cut.
        height: lines of the terminal; None when piped.
        live: whether `out` is a terminal that can be redrawn.
        err_is_terminal: whether `err` is a terminal: in a file there are no colours, and no line overwrites another.
        can_prompt: whether questions can be asked: both ends are terminals.
        quiet: suppress notes, for scripts that read standard error too.
        endpoint: the value of `--endpoint`; it is added to commands that are shown, so that they can be pasted.
        operator: returns `odc` as the operator types it for this cloud; called only when such a command is shown.
    """

    out: TextIO
    err: TextIO
    colour: bool = False
    width: int | None = None
    height: int | None = None
    live: bool = False
    err_is_terminal: bool = False
    can_prompt: bool = False
    quiet: bool = False
    endpoint: str = ""
    operator: Callable[[], str] = lambda: "odc"

    def line(self, text: str = "") -> None:
        """Print one line of the answer. Raises OSError, with `STANDARD_OUTPUT` as the file's name."""
        self._write("".join(f"{fit(part, self.out)}\n" for part in self._wrapped(text)))

    def lines(self, texts: Iterable[str]) -> None:
        """Print several lines."""
        for text in texts:
            self.line(text)

    def note(self, text: str) -> None:
        """Print one line to standard error, unless quiet: it is not part of the answer."""
        if self.quiet:
            return
        self._write_err(text)

    def _write_err(self, text: str) -> None:
        parts = self._wrapped(text) if self.err_is_terminal else [plain(self._typed(text))]
        self.err.write("".join(f"{fit(part, self.err)}\n" for part in parts))
        self.err.flush()

    def progress(self, text: str) -> None:
        """Show a progress line on standard error that the next one overwrites; only on a terminal. Empty text clears
        it.
        """
        if self.err_is_terminal:
            self.err.write("\r\x1b[K" + fit(text, self.err)[: (self.width or 80) - 1])
            self.err.flush()

    def json(self, value: object) -> None:
        """Print the answer as JSON. Raises OSError as `line` does."""
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        self._write(_json_for(self.out, text) + "\n")

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour if colours are on."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colour and colour and text else text

    def measured(self) -> Output:
        """Return a copy with the terminal's current size."""
        if self.width is None:
            return self
        import shutil

        size = shutil.get_terminal_size()
        return replace(self, width=size.columns or 80, height=size.lines or 24)

    def redraw(self, lines: Sequence[str], footer: str, before: int) -> int:
        """Replace the last rows by lines, as many as the terminal has room for.

        Args:
            lines: the new lines.
            footer: the last line; it is always shown.
            before: the number of rows to replace.

        Returns:
            The number of rows that were drawn.
        """
        room = (self.height or len(lines) + 2) - 1 - self._rows(footer)
        shown: list[str] = []
        rows = 0
        lines = [part for text in lines for part in self._wrapped(text)]
        for number, text in enumerate(lines):
            needed = self._rows(text)
            if rows + needed > room - (number < len(lines) - 1):
                shown.append(f"… {len(lines) - number} more lines")
                rows += 1
                break
            shown.append(text)
            rows += needed
        # One write, each line over the old one: the screen never flickers.
        drawn = "".join(f"{fit(text, self.out)}{self._rest_away(text)}\n" for text in (*shown, footer))
        self._write((f"\x1b[{before}F" if before else "") + drawn + "\x1b[J")
        return rows + self._rows(footer)

    def clear(self) -> int:
        """Clear the terminal; return the rows that are drawn then: 0."""
        self.out.write("\x1b[H\x1b[2J")
        return 0

    def _wrapped(self, text: str) -> list[str]:
        text = self._typed(text)
        return wrap_line(text, self.width) if self.width else [text]

    def _typed(self, text: str) -> str:
        """Return a text with each of our commands as it is typed for this cloud."""
        programs = {Program.GPU_DEV: f"gpu-dev --endpoint {self.endpoint}"} if self.endpoint else {}
        if any(part.program is Program.ODC for part in parts_of(text)):
            programs[Program.ODC] = self.operator()
        return typed(text, programs)

    def _rest_away(self, text: str) -> str:
        """Return the code that clears the rest of a line; after a full row it would delete the last character."""
        return "" if self.width and plain(text) and len(plain(text)) % self.width == 0 else "\x1b[K"

    def _rows(self, text: str) -> int:
        """Return the number of terminal rows of a line."""
        length = len(plain(text))
        return max(1, -(-length // self.width)) if self.width else 1

    def error(self, error: OdcError, as_json: bool, message: str = "") -> None:
        """Print an error with its hints.

        Args:
            error: the error.
            as_json: for scripts.
            message: replaces the error's own message in text output: the same with times in the user's zone.
        """
        if as_json:
            hints = [{"label": hint.label, "command": self._typed(hint.command)} for hint in error.hints]
            first = hints[0]["command"] if hints else ""
            facts = {"error": type(error).__name__, "message": error.message, "when": error.when}
            view = facts | {"hint": first, "hints": hints}
            self.err.write(_json_for(self.err, msgspec.json.encode(view).decode()) + "\n")
            return
        self._write_err(self.paint("error: ", "red") + (message or error.message))
        width = max((len(hint.label) for hint in error.hints), default=0)
        for hint in error.hints:
            self._write_err(f"  {hint.label:<{width}}   " + hint.command)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], spare: Sequence[str] = ()) -> list[str]:
        """Return aligned columns under a header. On a narrow terminal the spare columns are dropped, then each row
        becomes a block.

        Args:
            header: column titles.
            rows: cells; they may carry colours.
            spare: titles of columns that can be done without, the first to go first.
        """
        cells = [list(header), *(list(row) for row in rows)]
        shown = list(range(len(header)))
        for title in ("", *spare):
            shown = [index for index in shown if header[index] != title]
            widths = {index: max(len(plain(row[index])) for row in cells) for index in shown}
            if self.width is None or sum(widths.values()) + len(GAP) * (len(shown) - 1) <= self.width:
                return [self._aligned(row, widths, number == 0) for number, row in enumerate(cells)]
        return self.blocks(cells[0], cells[1:])

    def _aligned(self, row: Sequence[str], widths: dict[int, int], is_header: bool) -> str:
        parts = [row[index] + " " * (width - len(plain(row[index]))) for index, width in widths.items()]
        line = GAP.join(parts).rstrip()
        return self.paint(line, "dim") if is_header else line

    @staticmethod
    def blocks(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
        """Return each row as its first cell, with the others below it, one fact a line."""
        width = max(len(title) for title in header)
        lines = []
        for row in rows:
            lines.append(row[0])
            facts = zip(header[1:], row[1:], strict=True)
            lines += [
                f"  {title.lower():<{width}}  {cell}" for title, cell in facts if plain(cell) not in ("", "-", NO_GPUS)
            ]
        return lines


def fit(text: str, stream: TextIO) -> str:
    """Return the text in a form that the stream supports: no control characters except our own colours, and ASCII if
    needed.
    """
    if _CONTROL.search(text):
        ours = _OURS.findall(text)
        parts = [_CONTROL.sub("?", part) for part in _OURS.split(text)]
        text = "".join(part + code for part, code in zip(parts, [*ours, ""], strict=True))
    if _is_utf8(stream):
        return text.encode("utf-8", errors="replace").decode("utf-8")
    return to_ascii(text)


def _is_utf8(stream: TextIO) -> bool:
    return is_utf8(getattr(stream, "encoding", None) or "utf-8")


def _json_for(stream: TextIO, text: str) -> str:
    """Return JSON in an encoding that the stream supports, without loss."""
    return text if _is_utf8(stream) else escaped(text)


def standard_output(no_colour: bool, term: str) -> Output:
    """Return the process's own terminal or pipe.

    Args:
        no_colour: the user wants none (`NO_COLOR`).
        term: the terminal's kind (`TERM`).
    """
    out, err = sys.stdout, sys.stderr
    is_terminal = out.isatty()
    capable = is_terminal and term != "dumb"
    err_is_terminal = err.isatty() and term != "dumb"
    output = Output(
        out=out,
        err=err,
        colour=capable and not no_colour,
        width=80 if is_terminal else None,
        height=24 if is_terminal else None,
        live=capable,
        err_is_terminal=err_is_terminal,
        can_prompt=capable and err_is_terminal and sys.stdin is not None and sys.stdin.isatty(),
    )
    return output.measured()
