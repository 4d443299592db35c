"""A real pseudo-terminal with a small screen behind it: what a person would see and type."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cloud import Person
from tests.waiting import DEADLINE_S

UP, DOWN, ENTER, ESCAPE, CTRL_C, SPACE = "\x1b[A", "\x1b[B", "\r", "\x1b", "\x03", " "
_TOKEN = re.compile(r"\x1b\[(?P<args>[?0-9;]*)(?P<final>[@-~])|\x1b[^\[]|(?P<text>[^\x1b])", re.DOTALL)


class Screen:
    """The characters on a terminal: as much of one as `gpu-dev` and its questions use."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [""]
        self.row = self.column = 0
        self._rest = ""

    def feed(self, text: str) -> Iterator[str]:
        """Draw; gives what the terminal answers to the program."""
        text, self._rest = self._rest + text, ""
        place = 0
        while place < len(text):
            token = _TOKEN.match(text, place)
            if token is None:
                self._rest = text[place:]
                return
            place = token.end()
            if token["text"]:
                self._put(token["text"])
            elif token["final"] == "n" and token["args"] == "6":
                top = max(len(self.lines) - self.rows, 0)
                yield f"\x1b[{self.row - top + 1};{self.column + 1}R"
            elif token["final"]:
                self._control(token["final"], token["args"])

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\b":
            self.column = max(self.column - 1, 0)
        elif character == "\n":
            self._down(1)
        elif character >= " ":
            if self.column >= self.columns:
                self.column = 0
                self._down(1)
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
            self.column += 1

    def _down(self, count: int) -> None:
        self.row += count
        self.lines += [""] * (self.row + 1 - len(self.lines))

    def _control(self, final: str, args: str) -> None:
        numbers = [int(word) if word.isdigit() else 0 for word in args.split(";")]
        count = numbers[0] or 1
        top = max(len(self.lines) - self.rows, 0)
        if final in "AF":
            self.row = max(self.row - count, top)
        elif final in "BE":
            self.row = min(self.row + count, len(self.lines) - 1)
        elif final == "C":
            self.column = min(self.column + count, self.columns - 1)
        elif final == "D":
            self.column = max(self.column - count, 0)
        elif final == "H":
            self.row, self.column = top, (numbers[1] if len(numbers) > 1 else 1) - 1
            self._down(count - 1)
        elif final in "JK":
            self._erase(final, numbers[0])
        if final in "EF":
            self.column = 0

    def _erase(self, final: str, kind: int) -> None:
        """To the end of the line or the screen; all of it for 2."""
        if kind == 2:
            self.lines[self.row] = ""
        else:
            self.lines[self.row] = self.lines[self.row][: self.column]
        if final == "J":
            del self.lines[self.row + 1 :]

    @property
    def text(self) -> str:
        """Every line, those that scrolled away too."""
        return "\n".join(line.rstrip() for line in self.lines)


class Terminal:
    """A command on a terminal of its own; Ctrl+C reaches it as from a keyboard."""

    def __init__(self, person: Person, command: tuple[str, ...], size: tuple[int, int], extra: dict[str, str]) -> None:
        self.master, self.slave = os.openpty()
        self.screen = Screen(*size)
        self.raw = ""
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        entry = pwd.getpwnam(person.name)
        os.fchown(self.slave, entry.pw_uid, entry.pw_gid)
        env = {
            "HOME": str(person.home),
            "USER": person.name,
            "PATH": f"{person.bin}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "GPU_DEV_ENDPOINT": f"unix://{person.socket}",
            **extra,
        }
        self.process = subprocess.Popen(
            # Whoever runs the tests in the background of a shell has them ignore Ctrl+C.
            ["env", "--default-signal=INT,QUIT", "setsid", "--ctty", *command],
            env=env,
            cwd=person.home,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
        )

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; what stands on it stays where it is."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.columns, self.screen.rows = columns, rows

    def read(self, seconds: float) -> bool:
        """Draw what the program writes within some seconds; False if that was nothing."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        text = os.read(self.master, 65536).decode(errors="replace")
        self.raw += text
        for answer in self.screen.feed(text):
            os.write(self.master, answer.encode())
        return True

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def expect(self, *wanted: str, deadline_s: float = DEADLINE_S) -> str:
        """Wait until all of this stands on the screen; the screen."""
        end = time.monotonic() + deadline_s
        while not all(words in self.screen.text for words in wanted):
            assert time.monotonic() < end, f"{wanted} never came:\n{self.screen.text}"
            if not self.read(0.1) and self.process.poll() is not None and not self.read(0.1):
                raise AssertionError(f"{wanted} never came; it ended with {self.process.poll()}:\n{self.screen.text}")
        return self.screen.text

    def answer(self, question: str, keys: str) -> None:
        """Wait for a question, then press keys."""
        self.expect(question)
        self.type(keys)

    def ended(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code, once it has ended and everything is drawn."""
        end = time.monotonic() + deadline_s
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it never ended:\n{self.screen.text}"
            self.read(0.05)
        while self.read(0.05):
            pass
        return self.process.returncode

    @property
    def is_restored(self) -> bool:
        """Whether the terminal's settings are what they were, and the cursor is visible."""
        hidden = self.raw.rfind("\x1b[?25l") > self.raw.rfind("\x1b[?25h")
        return termios.tcgetattr(self.slave) == self.before and not hidden


@contextmanager
def terminal(
    person: Person, *command: str, columns: int = 80, rows: int = 24, **environment: str
) -> Iterator[Terminal]:
    """Run a command as this user on a terminal of this size; it is ended afterwards."""
    made = Terminal(person, command, (columns, rows), environment)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.wait()
        os.close(made.master)
        os.close(made.slave)
