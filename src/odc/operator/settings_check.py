"""Validates settings; messages name the setting, the allowed values, and an example."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from odc.domain.catalog import BUILT_IN, Catalog, GpuType
from odc.domain.errors import Hint, InvalidRequest
from odc.domain.names import check_name, near_match
from odc.operator.settings import TABLES, Settings
from odc.operator.settings_rules import declarations, rule_of

SOCKET_BYTES = 100
"""The longest path of a socket here; the kernel takes 107. Source: unix(7), `sun_path`."""
BOX_ADDRESSES = 16
"""Addresses of one reservation's network."""
REMOVED = {"types": ("cpus", "memory_gib")}
"""Table to the settings that earlier versions had in it."""
_EXPECTED = re.compile(r"^(?P<words>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_KINDS = {
    "`str`": "text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
    "Expected": "expected",
    "Object missing required field": "it lacks",
}


def as_toml(name: str, value: object) -> str:
    """Return a setting as a line of the file."""
    if isinstance(value, Mapping):
        return f"{name} = {{ {', '.join(as_toml(key, inner) for key, inner in value.items())} }}"
    return f"{name} = {json.dumps(value)}"


def unknown_key(values: Mapping[str, Any], kind: type[msgspec.Struct], where: str, inside: str = "") -> None:
    """Refuse a key that is not a setting.

    Args:
        values: as read from the file.
        kind: the class of these settings.
        where: the file, for the message.
        inside: the table that the values are in; empty at the top.

    Raises:
        InvalidRequest: the first unknown key, with the most similar known one.
    """
    known = kind.__struct_fields__
    for key in values:
        if key in known:
            continue
        if key in REMOVED.get(inside, ()):
            text = f"{where}: [{inside}] {key!r} is no longer a setting; it never had an effect"
            raise InvalidRequest(text, Hint("delete the line", as_toml(key, values[key])))
        meant = near_match(key, known)
        place = f" in [{inside}]" if inside else ""
        hints = [Hint("did you mean", as_toml(meant, values[key]))] if meant else [Hint("there are", ", ".join(known))]
        raise InvalidRequest(f"{where}: there is no setting {key!r}{place}", *hints)


def wrong_type(error: msgspec.ValidationError, where: str, settings: type[msgspec.Struct]) -> InvalidRequest:
    """Return the error that names the setting with a value of the wrong type, and the allowed values."""
    found = _EXPECTED.match(str(error))
    words, path = (found["words"], found["path"] or "") if found else (str(error), "")
    for technical, plain in _KINDS.items():
        words = words.replace(technical, plain)
    name = re.split(r"[.\[]", path)[0]
    hints = []
    if name in settings.__struct_fields__:
        hints.append(Hint("what it is", f"{name}: {declarations(settings)[name].description}"))
        default = getattr(settings(), name)
        if isinstance(default, int | float | str) or (default and isinstance(default, tuple)):
            hints.append(Hint("for example", as_toml(name, default)))
    return InvalidRequest(f"{where}: {path or 'the file'}: {words}", *hints)


def check_settings(settings: Settings, where: str) -> None:
    """Refuse invalid values.

    Raises:
        InvalidRequest: the first of them, with the allowed values.
    """
    check_name(settings.cloud, "cloud")
    _check_rules(settings, f"{where}:")
    for table in TABLES:
        _check_rules(getattr(settings, table), f"{where}: [{table}]")
    if settings.limits.stop_s <= settings.limits.grace_s:
        raise InvalidRequest(f"{where}: [limits] stop_s must be more than grace_s: the grace is a part of it")
    _check_paths(settings, where)
    _check_network(settings, where)
    _check_target(settings, where)
    _check_types(settings.types, where)


def _check_rules(table: msgspec.Struct, where: str) -> None:
    """Refuse the first value of a table that its rule does not allow."""
    for name, declaration in declarations(type(table)).items():
        rule, value = rule_of(declaration), getattr(table, name)
        if rule is not None and not rule.allows(value):
            raise InvalidRequest(f"{where} {as_toml(name, msgspec.to_builtins(value))} is not allowed: {rule.words}")


def _check_paths(settings: Settings, where: str) -> None:
    """Refuse a socket path that is longer than socket addresses allow."""
    engine = settings.state_folder / "engine" / "podman.sock"
    for name, value, socket in (("socket", settings.socket, settings.socket), ("state", settings.state, str(engine))):
        length = len(os.fsencode(socket))
        if length > SOCKET_BYTES:
            text = f"{where}: {name}: the path of the socket {socket} is too long: {length} bytes"
            shorter = len(os.fsencode(value)) - length + SOCKET_BYTES
            raise InvalidRequest(f"{text}; {name} may have {shorter}", ("choose a shorter one", f'{name} = "/…"'))


def _check_network(settings: Settings, where: str) -> None:
    try:
        network = ipaddress.ip_network(settings.network)
    except ValueError as error:
        text = f'{where}: network = "{settings.network}" is not allowed: {error}'
        raise InvalidRequest(text, ("for example", 'network = "10.90.0.0/16"')) from error
    count = settings.ports[1] - settings.ports[0] + 1
    if network.num_addresses < count * BOX_ADDRESSES:
        least = network.max_prefixlen - math.ceil(math.log2(count * BOX_ADDRESSES))
        raise InvalidRequest(
            f"{where}: network {network} is too small for {count} ports, each with {BOX_ADDRESSES} addresses",
            ("a larger network", f'network = "{network.network_address}/{least}"'),
            ("or fewer ports", as_toml("ports", [settings.ports[0], settings.ports[0] + 99])),
        )


def _check_target(settings: Settings, where: str) -> None:
    if settings.context and settings.simulate:
        raise InvalidRequest(
            f"{where}: simulate and context exclude each other: GPUs are simulated on this machine only",
            ("boxes here", 'context = ""'),
            ("boxes in the cluster", 'simulate = ""'),
        )


def _check_types(types: Iterable[GpuType], where: str) -> None:
    Catalog(types)
    for gpu_type in types:
        numbers = (gpu_type.gpus_per_node, gpu_type.gpu_memory_gib, gpu_type.min_memory_gib)
        if min(numbers) < 0 or gpu_type.units_per_node < 1:
            raise InvalidRequest(
                f"{where}: type {gpu_type.name}: its numbers must not be below 0, and units_per_node not below 1"
            )
        if any(word != word.lower() for word in gpu_type.match):
            raise InvalidRequest(f"{where}: type {gpu_type.name}: match holds words in lower case")
    names = [gpu_type.name for gpu_type in types]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        known = "one definition changes a built-in type" if twice in {one.name for one in BUILT_IN} else "one is enough"
        raise InvalidRequest(f"{where}: type {twice} is defined twice; {known}")
