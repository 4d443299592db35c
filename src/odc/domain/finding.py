"""What `odc doctor` finds, one line each."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One line.

    Attributes:
        level: `ok`, `warn` or `fail`.
        subject: of what, in a word or two.
        text: what was found.
        hint: what to do; empty for nothing.
    """

    level: str
    subject: str
    text: str
    hint: str = ""
