"""Text for terminals that cannot show more than ASCII. Light: the entry points use it before anything else.

Python itself takes the locale `C` for UTF-8 (PEP 538, PEP 540), so the encoding of a stream does not say what the
terminal shows; the environment does.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Mapping

_NAMED = str.maketrans(
    {
        "…": "...",
        "·": "-",
        "–": "-",
        "—": "-",
        "×": "x",
        "“": '"',
        "”": '"',
        "„": '"',
        "‘": "'",
        "’": "'",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
        "ß": "ss",
        "\xa0": " ",
    }
)
_OTHER = re.compile(r"[^\x00-\x7f]")


def to_ascii(text: str) -> str:
    """Return the text in ASCII: letters without their accents, signs spelled out, `?` for the rest."""
    if text.isascii():
        return text
    import unicodedata

    plain = unicodedata.normalize("NFKD", text.translate(_NAMED))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).encode("ascii", "replace").decode()


def escaped(json: str) -> str:
    """Return JSON text with every character outside ASCII as `\\uXXXX`: the same value."""
    return _OTHER.sub(lambda found: "".join(f"\\u{unit:04x}" for unit in _units(found[0])), json)


def _units(character: str) -> list[int]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[place : place + 2], "big") for place in range(0, len(raw), 2)]


def is_utf8(encoding: str | None) -> bool:
    """Whether this name, such as a stream's or a locale's, means UTF-8."""
    return (encoding or "").lower().replace("-", "").endswith("utf8")


def shows_utf8(environment: Mapping[str, str]) -> bool:
    """Whether the user's locale has UTF-8: `LC_ALL`, then `LC_CTYPE`, then `LANG`; none of them is `C`.

    Args:
        environment: as the process was started with.
    """
    named = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "C")
    return is_utf8(named.partition("@")[0])


def fit_streams(environment: Mapping[str, str]) -> None:
    """Restrict standard output and error to ASCII, for all writers, if the user's locale is not UTF-8."""
    if shows_utf8(environment):
        return
    codecs.register(lambda name: _CODEC if name == _CODEC.name else None)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=_CODEC.name)


def _encode(text: str, _errors: str = "strict") -> tuple[bytes, int]:
    return to_ascii(text).encode("ascii"), len(text)


class _Encoder(codecs.IncrementalEncoder):
    def encode(self, text: str, final: bool = False) -> bytes:
        return _encode(text)[0]


# Not `ascii` by name: click takes such a stream for a mistake, and writes UTF-8 to it.
_CODEC = codecs.CodecInfo(_encode, codecs.ascii_decode, incrementalencoder=_Encoder, name="odc_ascii")
