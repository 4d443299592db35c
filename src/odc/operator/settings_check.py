"""What is wrong with settings, in words that name the setting, what it may be, and an example."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from odc.domain.catalog import BUILT_IN, Catalog, GpuType
from odc.domain.dns import is_reachable
from odc.domain.errors import Hint, InvalidRequest
from odc.domain.names import check_name, near_match
from odc.operator.docstrings import meanings
from odc.operator.settings import Settings, SnapshotSettings

SOCKET_BYTES = 100
"""The longest path of a socket here; the kernel takes 107. Source: unix(7), `sun_path`."""
BOX_IDS = 65536
"""Host uids that the boxes' user namespace takes."""
BOX_ADDRESSES = 16
"""Addresses of one reservation's network."""
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]*", re.ASCII)
_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_REPOSITORY = re.compile(r"(https?|ssh|git)://\S+$|file:///\S+$", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
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
    """A setting as it stands in the file."""
    if isinstance(value, Mapping):
        return f"{name} = {{ {', '.join(as_toml(key, inner) for key, inner in value.items())} }}"
    return f"{name} = {json.dumps(value)}"


def unknown_key(values: Mapping[str, Any], kind: type[msgspec.Struct], where: str, inside: str = "") -> None:
    """Refuse a key that is no setting.

    Args:
        values: as the file has them.
        kind: the class of these settings.
        where: the file, for the message.
        inside: the table that the values stand in; empty at the top.

    Raises:
        InvalidRequest: the first unknown key, with the one that was probably meant.
    """
    known = kind.__struct_fields__
    for key in values:
        if key in known:
            continue
        meant = near_match(key, known)
        place = f" in [{inside}]" if inside else ""
        hints = [Hint("did you mean", as_toml(meant, values[key]))] if meant else [Hint("there are", ", ".join(known))]
        raise InvalidRequest(f"{where}: there is no setting {key!r}{place}", *hints)


def wrong_type(error: msgspec.ValidationError, where: str, settings: type[msgspec.Struct]) -> InvalidRequest:
    """The error that says which setting has a value of the wrong type, and what it may be."""
    found = _EXPECTED.match(str(error))
    words, path = (found["words"], found["path"] or "") if found else (str(error), "")
    for technical, plain in _KINDS.items():
        words = words.replace(technical, plain)
    name = re.split(r"[.\[]", path)[0]
    hints = []
    if name in settings.__struct_fields__:
        hints.append(Hint("what it is", f"{name}: {meanings(settings)[name]}"))
        default = getattr(settings(), name)
        if isinstance(default, int | float | str) or (default and isinstance(default, tuple)):
            hints.append(Hint("for example", as_toml(name, default)))
    return InvalidRequest(f"{where}: {path or 'the file'}: {words}", *hints)


def check_settings(settings: Settings, where: str) -> None:
    """Refuse values that could never work.

    Raises:
        InvalidRequest: the first of them, with what it may be.
    """
    check_name(settings.cloud, "cloud")
    for name, is_right, rule in _RULES:
        value = getattr(settings, name)
        if not is_right(value):
            raise InvalidRequest(f"{where}: {as_toml(name, msgspec.to_builtins(value))} is not allowed: {rule}")
    for name, least in _LEAST_LIMITS.items():
        number = getattr(settings.limits, name)
        if not math.isfinite(number) or number < least:
            raise InvalidRequest(f"{where}: [limits] {as_toml(name, number)} is not allowed: at least {least}")
    if settings.limits.stop_s <= settings.limits.grace_s:
        raise InvalidRequest(f"{where}: [limits] stop_s must be more than grace_s: the grace is a part of it")
    _check_snapshots(settings.snapshots, where)
    _check_paths(settings, where)
    _check_network(settings, where)
    _check_types(settings.types, where)


def _number(least: float) -> Callable[[float], bool]:
    return lambda value: math.isfinite(value) and value >= least


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_timezone(name: str) -> bool:
    """Whether it is a time zone of this machine; unknown where the machine has no list of them."""
    known = zoneinfo.available_timezones()
    return not name or not known or name in known


def _is_pem(path: str) -> bool:
    """Whether the file can be read and holds certificates; nothing is no file."""
    try:
        return not path or (Path(path).is_absolute() and b"-----BEGIN CERTIFICATE-----" in Path(path).read_bytes())
    except OSError:
        return False


def _are_variables(pairs: Mapping[str, str]) -> bool:
    return all(_VARIABLE.fullmatch(name) and not set(text) & set("\n\r\0") for name, text in pairs.items())


def _are_ports(ports: tuple[int, int]) -> bool:
    return 1024 <= ports[0] <= ports[1] <= 65535


def _is_plain_path(path: str) -> bool:
    """Whether every program that is given the path takes it as it is: URLs, mount options and lists of them among them.

    Whether it ends in a slash or has a double one does not matter; one that climbs with `..` does.
    """
    parts = Path(path).parts[1:]
    return Path(path).is_absolute() and bool(parts) and all(map(_PATH_PART.fullmatch, parts)) and ".." not in parts


_PATH_PART = re.compile(r"[\w.+@=-]+")
_PLAIN = "of letters, digits and . _ + @ = - only"
_Rule = tuple[str, Callable[[Any], bool], str]
_RULES: tuple[_Rule, ...] = (
    ("state", lambda path: _is_plain_path(path), f"a folder's whole path, from /, {_PLAIN}"),
    ("disks", lambda path: not path or _is_plain_path(path), f"a folder's whole path, from /, {_PLAIN}"),
    ("socket", lambda path: _is_plain_path(path), f"a whole path, from /, {_PLAIN}"),
    ("ports", _are_ports, "two numbers from 1024 to 65535, the smaller first, such as [30000, 31999]"),
    ("listen", _is_address, 'an address of this machine, such as "127.0.0.1", or "0.0.0.0" for all of them'),
    ("address", lambda text: not text or bool(_HOST.fullmatch(text)), "a host's name or address, such as gpu1.lab"),
    ("keep_types", all, "names of GPU types"),
    ("disk_gib", _number(0.01), "at least 0.01"),
    ("disk_file_gib", _number(0.2), "at least 0.2"),
    ("layer_gib", lambda size: size == 0 or _number(0.05)(size), "at least 0.05, or 0 for no limit"),
    ("keep_cpus", _number(0), "0 or more"),
    ("keep_memory_gib", _number(0), "0 or more"),
    ("image", lambda name: bool(_IMAGE.fullmatch(name)), "an image's name"),
    ("github", lambda text: text.startswith(("https://", "http://")), "an address that begins with https://"),
    ("github_api", lambda text: text.startswith(("https://", "http://")), "an address that begins with https://"),
    ("box_id_base", lambda base: BOX_IDS <= base <= 2**32 - 2 - BOX_IDS, f"from {BOX_IDS} to {2**32 - 2 - BOX_IDS}"),
    ("environment", _are_variables, "names of letters, digits and _, texts of one line"),
    (
        "dns",
        lambda found: all(map(is_reachable, found)),
        "IPv4 addresses that boxes can reach, not this machine's loopback",
    ),
    ("dns_search", lambda found: all(map(_DOMAIN.fullmatch, found)), 'domain names, such as "lab.example"'),
    ("oh_my_zsh", lambda text: not text or bool(_REPOSITORY.match(text)), "https://…, ssh://…, git://…, or file:///…"),
    ("oh_my_zsh_commit", lambda text: bool(_COMMIT.fullmatch(text)), "a commit's whole name: 40 hexadecimal digits"),
    ("certificates", _is_pem, "the whole path of a file with certificates in PEM form"),
    ("timezone", _is_timezone, 'an IANA name, such as "Europe/Berlin"'),
    ("admins", all, "names of Unix users"),
    ("ignored_containers", all, "names of containers"),
)
"""Setting, what it must fulfil, and that in words."""

_LEAST_LIMITS = {
    "live_per_user": 1,
    "gpus_per_user": 0,
    "disks_per_user": 1,
    "ended_per_user": 10,
    "prepare_s": 1,
    "stop_s": 1,
    "attempts": 1,
    "grace_s": 0,
    "missing_s": 0,
}


_SNAPSHOT_LIMITS = {"keep": (1, math.inf), "days": (0, math.inf), "percent": (0, math.inf), "free_percent": (0, 90)}


def _check_snapshots(snapshots: SnapshotSettings, where: str) -> None:
    for name, (least, most) in _SNAPSHOT_LIMITS.items():
        number = getattr(snapshots, name)
        if not math.isfinite(number) or not least <= number <= most:
            rule = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise InvalidRequest(f"{where}: [snapshots] {as_toml(name, number)} is not allowed: {rule}")


def _check_paths(settings: Settings, where: str) -> None:
    """Sockets have short paths, whatever the file system allows."""
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


def _check_types(types: Iterable[GpuType], where: str) -> None:
    Catalog(types)
    for gpu_type in types:
        numbers = (gpu_type.gpus_per_node, gpu_type.gpu_memory_gib, gpu_type.min_memory_gib)
        if min(numbers) < 0 or min(gpu_type.units_per_node, gpu_type.cpus, gpu_type.memory_gib) < 1:
            raise InvalidRequest(
                f"{where}: type {gpu_type.name}: its numbers must not be below 0, of cores and memory 1"
            )
        if any(word != word.lower() for word in gpu_type.match):
            raise InvalidRequest(f"{where}: type {gpu_type.name}: match holds words in lower case")
    names = [gpu_type.name for gpu_type in types]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        known = "it changes a built-in type once" if twice in {one.name for one in BUILT_IN} else "one is enough"
        raise InvalidRequest(f"{where}: type {twice} stands there twice; {known}")
