"""The page about JSON is the messages' own description."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from odc.operator.docstrings import meanings
from odc.operator.json_page import COMMANDS, PAGE, page, structs

ROOT = Path(__file__).parents[2]


def test_the_json_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: make docs"


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: struct.__name__)
def test_every_field_says_what_it_is(struct: type[msgspec.Struct]) -> None:
    said = meanings(struct)
    assert sorted(said) == sorted(struct.__struct_fields__)
    assert all(text.endswith(".") for text in said.values())


def test_every_command_with_json_is_on_the_page() -> None:
    from tests.docs.test_cli_reference import ALL

    told = " ".join(COMMANDS) + page()
    with_json = {path for path, command, _ in ALL if any("--json" in param.opts for param in command.params)}
    assert with_json
    assert not [path for path in sorted(with_json) if path not in told]
