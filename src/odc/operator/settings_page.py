"""Makes `docs/reference/settings.md` from the settings themselves: `python -m odc.operator.settings_page`."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import inspect

from odc.domain.catalog import GpuType
from odc.operator.settings import TABLES, Settings
from odc.operator.settings_check import as_toml
from odc.operator.settings_rules import declarations

PAGE = Path("docs/reference/settings.md")
_PLAIN = {
    inspect.StrType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
}
_HEAD = """# Settings

Made from the settings by `make docs`; do not edit. How a cloud is run: [the operator's page](../operator.md).

They are in `/etc/odc/odc.toml`, or in the file named by `odc --config FILE` or `ODC_CONFIG`. `odc up` writes its
options there. Every key may be left out. A key that does not exist, or a value that could
not work, is refused by name; nothing is started then. A change comes into effect by `odc down` and `odc up`: boxes go
on meanwhile.
"""
_TYPES = """
A type of a built-in type's name changes it. A GPU that no type matches becomes a type of its own, named after what
NVML calls it.
"""


def page() -> str:
    """The whole page."""
    said = declarations(Settings)
    whole = "\n".join(as_toml(name, value) for name, value in examples(GpuType).items())
    return "\n".join(
        (
            _HEAD,
            _table(Settings),
            *(f"\n## [{name}]\n\nA table: {said[name].description}\n\n{_table(kind)}" for name, kind in TABLES.items()),
            f"\n## [[types]]\n\nTables: {said['types'].description}",
            _TYPES,
            _table(GpuType),
            f"\n```toml\n[[types]]\n{whole}\n```\n",
        )
    )


def examples(kind: type[msgspec.Struct]) -> dict[str, object]:
    """The example of each field that has one, by name."""
    return {name: one.examples[0] for name, one in declarations(kind).items() if one.examples}


def _table(kind: type[msgspec.Struct]) -> str:
    """A row for each key of one line; tables of their own have their own section."""
    said, shown = declarations(kind), examples(kind)
    lines = ["| key | type | default | what | example |", "|---|---|---|---|---|"]
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        type_ = field.type.type if isinstance(field.type, inspect.Metadata) else field.type
        if kind is Settings and field.name not in shown:
            continue
        example = f"`{as_toml(field.name, shown[field.name])}`" if field.name in shown else ""
        words = (f"`{field.name}`", _type(type_), _default(field), said[field.name].description or "", example)
        lines.append(f"| {' | '.join(words)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def _type(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.VarTupleType):
        return f"list of {_type(kind.item_type)}s"
    if isinstance(kind, inspect.TupleType):
        return f"list of {len(kind.item_types)} {_type(kind.item_types[0])}s"
    if isinstance(kind, inspect.DictType):
        return f"table of {_type(kind.value_type)}s"
    return _PLAIN[type(kind)]


def _default(field: inspect.Field) -> str:
    if field.required:
        return "needed"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "" if value in ("", (), {}) else f"`{as_toml('', value).removeprefix(' = ')}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
