"""The page about the settings is the settings' own description, and its examples are settings that work."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from odc.domain.catalog import GpuType
from odc.operator.settings import TABLES, Settings
from odc.operator.settings_file import read_settings
from odc.operator.settings_page import PAGE, examples, page
from odc.operator.settings_rules import declarations

ROOT = Path(__file__).parents[2]
STRUCTS = (Settings, *TABLES.values(), GpuType)


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: make docs"


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_setting_says_what_it_is_in_the_order_in_which_it_stands(struct: type[msgspec.Struct]) -> None:
    said = declarations(struct)
    assert list(said) == list(struct.__struct_fields__)
    assert all((one.description or "").endswith(".") for one in said.values())


def test_every_setting_has_an_example_that_is_not_its_default() -> None:
    assert {*examples(Settings), *TABLES, "types"} == set(Settings.__struct_fields__)
    for struct in TABLES.values():
        assert set(examples(struct)) == set(struct.__struct_fields__)
    structs: tuple[type[msgspec.Struct], ...] = (Settings, *TABLES.values())
    for struct in structs:
        plain = struct()
        assert not [name for name, value in examples(struct).items() if getattr(plain, name) == value]


def test_the_examples_work_together(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    values = {**examples(Settings), "certificates": str(tmp_path / "ca.pem"), "types": [examples(GpuType)]}
    values |= {name: examples(kind) for name, kind in TABLES.items()}
    del values["context"]  # in a cluster nothing is simulated
    settings = read_settings(tmp_path / "empty.toml", values)
    for name, kind in TABLES.items():
        assert msgspec.to_builtins(getattr(settings, name)) == msgspec.to_builtins(examples(kind))
    assert settings.policy().catalog.get_type("rtx4090").gpus_per_node == 4


def test_the_examples_on_the_pages_are_settings(tmp_path: Path) -> None:
    texts = [(ROOT / "docs" / name).read_text() for name in ("operator.md", "reference/settings.md")]
    blocks = [block for text in texts for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        assert read_settings(file) != Settings()
