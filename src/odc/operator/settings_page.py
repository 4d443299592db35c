"""Makes `docs/reference/settings.md` from the settings themselves: `python -m odc.operator.settings_page`."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import inspect

from odc.domain.catalog import GpuType
from odc.operator.docstrings import meanings
from odc.operator.settings import LimitSettings, Settings, SnapshotSettings
from odc.operator.settings_check import as_toml

PAGE = Path("docs/reference/settings.md")
EXAMPLES: dict[str, object] = {
    "cloud": "lab",
    "state": "/srv/odc",
    "socket": "/run/odc/lab.sock",
    "database": "postgresql+psycopg://odc@db.example/odc",
    "admins": ("ada", "ben"),
    "simulate": "h100=2x8,t4=1x4",
    "listen": "0.0.0.0",  # noqa: S104  # an example of what may be chosen
    "address": "gpu1.lab.example",
    "ports": (20000, 20999),
    "network": "10.44.0.0/16",
    "metadata_service": True,
    "nested_namespaces": True,
    "disks": "/srv/btrfs/disks",
    "disk_gib": 250,
    "disk_file_gib": 1000,
    "layer_gib": 50,
    "image": "localhost/lab/box:1",
    "keep_cpus": 2,
    "keep_memory_gib": 4,
    "keep_types": ("t400-4gb",),
    "ignored_containers": ("dcgm-exporter",),
    "github": "https://github.example",
    "github_api": "https://github.example/api/v3",
    "box_id_base": 2_000_000_000,
    "environment": {"HTTPS_PROXY": "http://proxy.example:3128"},
    "dns": ["10.0.0.53", "10.0.1.53"],
    "dns_search": ["lab.example"],
    "oh_my_zsh": "https://git.lab.example/mirrors/ohmyzsh.git",
    "oh_my_zsh_commit": "d42209f2afa8ec3e6971e5b4695ff27f9d5670d2",
    "certificates": "/etc/odc/proxy-ca.pem",
    "timezone": "Europe/Berlin",
}
"""A value of each setting that is no table, other than its default."""
LIMIT_EXAMPLES: dict[str, object] = {
    "live_per_user": 4,
    "gpus_per_user": 8,
    "disks_per_user": 20,
    "ended_per_user": 5000,
    "prepare_s": 300,
    "stop_s": 180,
    "attempts": 5,
    "grace_s": 60,
    "missing_s": 60,
}
SNAPSHOT_EXAMPLES: dict[str, object] = {"keep": 14, "days": 60, "percent": 200, "free_percent": 10}
TYPE_EXAMPLE: dict[str, object] = {
    "name": "rtx4090",
    "gpus_per_node": 4,
    "gpu_memory_gib": 24,
    "cpus": 64,
    "memory_gib": 256,
    "match": ("rtx", "4090"),
}
_PLAIN = {
    inspect.StrType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
}
_HEAD = """# Settings

Made from the settings by `make docs`; do not edit. How a cloud is run: [the operator's page](../operator.md).

They stand in `/etc/odc/odc.toml`, or in the file named by `odc --config FILE` or `ODC_CONFIG`. Every key may be left
out. A key that does not exist, or a value that could not work, is refused by name; nothing is started then. A change
comes into effect by `odc down` and `odc up`: boxes go on meanwhile.
"""
_TYPES = """
A type of a built-in type's name changes it. A GPU that no type matches becomes a type of its own, named after what
NVML calls it.
"""


def page() -> str:
    """The whole page."""
    plain = [field for field in inspect.type_info(Settings).fields if field.name in EXAMPLES]  # type: ignore[attr-defined]
    limits = inspect.type_info(LimitSettings).fields  # type: ignore[attr-defined]
    snapshots = inspect.type_info(SnapshotSettings).fields  # type: ignore[attr-defined]
    types = inspect.type_info(GpuType).fields  # type: ignore[attr-defined]
    said = meanings(Settings)
    whole = "\n".join(as_toml(name, value) for name, value in TYPE_EXAMPLE.items())
    return "\n".join(
        (
            _HEAD,
            _table(plain, Settings, EXAMPLES),
            f"\n## [limits]\n\nA table: {said['limits']}\n",
            _table(limits, LimitSettings, LIMIT_EXAMPLES),
            f"\n## [snapshots]\n\nA table: {said['snapshots']}\n",
            _table(snapshots, SnapshotSettings, SNAPSHOT_EXAMPLES),
            f"\n## [[types]]\n\nTables: {said['types']}",
            _TYPES,
            _table(types, GpuType, TYPE_EXAMPLE),
            f"\n```toml\n[[types]]\n{whole}\n```\n",
        )
    )


def _table(fields: list[inspect.Field], kind: type, examples: dict[str, object]) -> str:
    said = meanings(kind)
    lines = ["| key | type | default | what | example |", "|---|---|---|---|---|"]
    for field in fields:
        example = f"`{as_toml(field.name, examples[field.name])}`" if field.name in examples else ""
        words = (f"`{field.name}`", _type(field.type), _default(field), said[field.name], example)
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
