"""An enum for words that a newer version may add to."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class OpenEnum(StrEnum):
    """A `StrEnum` that accepts any word: an unknown word is kept unchanged, and equals no member.

    For records and messages that a newer version may have written: they stay readable, and are shown and forwarded with
    the original word.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_, word._value_ = "UNKNOWN", value
        return word
