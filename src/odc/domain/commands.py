"""Text with the calls of our programs in it as data: commands in hints, and sentences that name a command.

How a program is typed depends on who reads it: `gpu-dev` may need `--endpoint`, `odc` may need `--config`. So the code
that makes a text writes `"Next: " + gpu_dev("reserve")`, and the code that shows it fills in the options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from odc.domain.open_enum import OpenEnum


class Program(OpenEnum):
    """Our two programs."""

    GPU_DEV = "gpu-dev"
    ODC = "odc"


class Part(NamedTuple):
    """A piece of shell text, after the name of a program of ours if there is one."""

    text: str
    program: Program | None = None

    def typed(self, programs: Mapping[Program, str]) -> str:
        """The piece as it is typed, with the program's options."""
        return programs.get(self.program, self.program) + self.text if self.program else self.text


class Command(str):
    """Shell text to paste, or a sentence with such text in it; as a string it names the programs without options.

    `"sudo " + odc("up")` and `"Next: " + gpu_dev("reserve")` are commands too. An f-string and the methods of `str`
    make plain text of one, to which no options can be added. Records and messages keep the parts: msgspec does not
    encode a command.
    """

    parts: tuple[Part, ...]

    def __new__(cls, parts: Iterable[Part]) -> Command:
        """The command of these parts, in order."""
        parts = tuple(parts)
        made = super().__new__(cls, "".join(part.typed({}) for part in parts))
        made.parts = parts
        return made

    def __add__(self, other: str) -> Command:
        return Command((*self.parts, *parts_of(other)))

    def __radd__(self, other: str) -> Command:
        return Command((*parts_of(other), *self.parts))


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts of a command; other text is one part."""
    return text.parts if isinstance(text, Command) else (Part(text),)


def joined(separator: str, texts: Iterable[str]) -> str:
    """Return the texts with a separator between them, as `str.join`, and keep their commands."""
    parts = [part for text in texts for part in (Part(separator), *parts_of(text))]
    return Command(parts[1:])


def typed(text: str, programs: Mapping[Program, str]) -> str:
    """Return a command as a user types it; other text is returned unchanged.

    Args:
        text: the command.
        programs: each program with its options; one that is missing needs none.
    """
    return "".join(part.typed(programs) for part in parts_of(text))


def gpu_dev(arguments: str) -> Command:
    """`gpu-dev` with these arguments, quoted for the shell where they need it."""
    return Command((Part(f" {arguments}", Program.GPU_DEV),))


def odc(arguments: str) -> Command:
    """`odc` with these arguments, quoted for the shell where they need it."""
    return Command((Part(f" {arguments}", Program.ODC),))
