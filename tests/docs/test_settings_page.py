"""The page about the settings is the settings' own description, and its examples are settings that work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from odc.domain.catalog import GpuType
from odc.operator.docstrings import meanings
from odc.operator.settings import LimitSettings, Settings, SnapshotSettings
from odc.operator.settings_file import read_settings
from odc.operator.settings_page import EXAMPLES, LIMIT_EXAMPLES, PAGE, SNAPSHOT_EXAMPLES, TYPE_EXAMPLE, page

ROOT = Path(__file__).parents[2]
STRUCTS = (Settings, LimitSettings, SnapshotSettings, GpuType)


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: make docs"


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_setting_says_what_it_is_in_the_order_in_which_it_stands(struct: type[msgspec.Struct]) -> None:
    said = meanings(struct)
    assert list(said) == list(struct.__struct_fields__)
    assert all(text.endswith(".") for text in said.values())


def test_every_setting_has_an_example_that_is_not_its_default() -> None:
    assert {*EXAMPLES, "limits", "snapshots", "types"} == set(Settings.__struct_fields__)
    tables: list[tuple[type[msgspec.Struct], Mapping[str, object]]]
    tables = [(LimitSettings, LIMIT_EXAMPLES), (SnapshotSettings, SNAPSHOT_EXAMPLES)]
    for struct, examples in tables:
        assert set(examples) == set(struct.__struct_fields__)
    tables.append((Settings, EXAMPLES))
    for struct, examples in tables:
        plain = struct()
        assert not [name for name, value in examples.items() if getattr(plain, name) == value]


def test_the_examples_work_together(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    values = {**EXAMPLES, "certificates": str(tmp_path / "ca.pem"), "limits": LIMIT_EXAMPLES}
    values |= {"snapshots": SNAPSHOT_EXAMPLES, "types": [TYPE_EXAMPLE]}
    settings = read_settings(tmp_path / "empty.toml", values)
    assert msgspec.to_builtins(settings.limits) == LIMIT_EXAMPLES
    assert msgspec.to_builtins(settings.snapshots) == SNAPSHOT_EXAMPLES
    assert settings.policy().catalog.get_type("rtx4090").gpus_per_node == 4


def test_the_examples_on_the_pages_are_settings(tmp_path: Path) -> None:
    texts = [(ROOT / "docs" / name).read_text() for name in ("operator.md", "reference/settings.md")]
    blocks = [block for text in texts for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert read_settings(file) != Settings()
