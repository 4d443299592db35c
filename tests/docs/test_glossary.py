"""The glossary has each word once, and names the code that defines it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| (?P<words>[^|]+) \| (?P<meaning>[^|]+) \| `(?P<name>\w+)` in `(?P<module>[^`]+)` \|")
ROWS = [
    line
    for line in (ROOT / "docs/glossary.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| word |")
]


def test_each_word_is_explained_once() -> None:
    words = [word for row in ROWS for word in row.split("|")[1].strip().split(", ")]
    assert len(words) > 50
    assert sorted(set(words)) == sorted(words)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_the_code_of_a_word_defines_the_name_in_that_module(row: str) -> None:
    match = ROW.fullmatch(row)
    assert match
    module = ROOT / match["module"]
    assert module.is_file()
    defined = rf"^(?:\s*(?:def|class) {match['name']}\b|{match['name']}\b[^=\n]*=)"
    assert re.search(defined, module.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_glossary_is_linked_from_where_contributors_start(page: str) -> None:
    assert "glossary.md)" in (ROOT / page).read_text()
