"""What a terminal without UTF-8 is sent, and how such a one is known."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odc.cli.ascii import escaped, shows_utf8, to_ascii


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LC_ALL": "C"}, False),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, True),
        ({"LC_ALL": "", "LC_CTYPE": "", "LANG": "de_DE.utf8"}, True),
        ({"LC_CTYPE": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LC_CTYPE": "en_US.UTF-8", "LANG": "C"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "de_DE@euro"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "sr_RS.UTF-8@latin"}, True),
        ({}, False),
    ],
)
def test_the_locale_says_whether_a_terminal_shows_utf8(environment: dict[str, str], expected: bool) -> None:
    assert shows_utf8(environment) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wait … now", "wait ... now"),
        ("größe → 4 × “h100”", 'grosse -> 4 x "h100"'),
        ("é\u0301\xa0ñ", "e n"),
        ("日本", "??"),
        ("😀", "?"),
    ],
)
def test_text_keeps_its_meaning_in_ascii(text: str, expected: str) -> None:
    assert to_ascii(text) == expected


@given(st.text())
def test_json_means_the_same_in_ascii(text: str) -> None:
    told = escaped(json.dumps({"name": text}, ensure_ascii=False))
    assert told.isascii()
    assert json.loads(told) == {"name": text}
