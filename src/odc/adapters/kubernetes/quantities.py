"""Kubernetes' notation of amounts: `500m`, `16Gi`, `1e3`.

Source: Kubernetes API reference, "Quantity".
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_SUFFIXES = {
    **{letter + "i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
}


def amount(text: str) -> Decimal:
    """Return the number; 0 for a text that is not an amount."""
    number = text.rstrip("KMGTPEkinum")
    try:
        return Decimal(number) * _SUFFIXES.get(text[len(number) :], Decimal(1))
    except InvalidOperation:
        return Decimal(0)


def millis(text: str) -> int:
    """Return an amount of CPU in thousandths of a core."""
    return int(amount(text) * 1000)
