"""The findings of `odc doctor`."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One line of its output.

    Attributes:
        level: `ok`, `warn` or `fail`.
        subject: the checked component, in a word or two.
        text: what was found.
        hint: what to do; empty for nothing.
    """

    level: str
    subject: str
    text: str
    hint: str = ""
