"""Rules for the values of settings: each is a predicate, and its wording for error messages."""

from __future__ import annotations

import ipaddress
import math
import re
import zoneinfo
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec

from odc.domain.dns import is_reachable

BOX_IDS = 65536
"""Host uids that the boxes' user namespace takes."""
_PATH_PART = re.compile(r"[\w.+@=-]+")
_PLAIN = "of letters, digits and . _ + @ = - only"
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:-]*", re.ASCII)
_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_REPOSITORY = re.compile(r"(https?|ssh|git)://\S+$|file:///\S+$", re.ASCII)
_LABEL = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_PULL_POLICIES = ("IfNotPresent", "Always", "Never")
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


class Rule(NamedTuple):
    """A predicate for a value, and its wording."""

    allows: Callable[[Any], bool]
    words: str


def setting(description: str, example: object = None, rule: Rule | None = None) -> msgspec.Meta:
    """Return the declaration of a setting, for `Annotated`.

    Args:
        description: what it is, with its unit and what an empty value means; a sentence.
        example: a value other than the default, for the reference page; None for a table.
        rule: a condition for values of the right type; None: all are allowed.
    """
    examples = [] if example is None else [example]
    return msgspec.Meta(description=description, examples=examples, extra={"rule": rule})


def declarations(kind: type[msgspec.Struct]) -> dict[str, msgspec.Meta]:
    """Return the declaration of each field, by name, in the order of the class.

    Args:
        kind: a class whose fields are all annotated with a `msgspec.Meta`.
    """
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in kind.__struct_fields__}


def rule_of(declaration: msgspec.Meta) -> Rule | None:
    """Return the rule of a declared setting; None if every value of its type is allowed."""
    rule: Rule | None = (declaration.extra or {}).get("rule")
    return rule


def number(least: float, most: float = math.inf, words: str = "") -> Rule:
    """Return the rule of a finite number in a range.

    Args:
        least: the lowest allowed number.
        most: the highest allowed number.
        words: wording for messages; empty for the range in words.
    """
    said = words or (f"at least {least}" if most == math.inf else f"from {least} to {most}")
    return Rule(lambda value: math.isfinite(value) and least <= value <= most, said)


def _is_plain_path(path: str) -> bool:
    """Whether the path can be used unquoted everywhere that ODC passes it, including URLs, mount options and lists of
    paths.

    Trailing and double slashes are allowed; `..` is not.
    """
    parts = Path(path).parts[1:]
    return Path(path).is_absolute() and bool(parts) and all(map(_PATH_PART.fullmatch, parts)) and ".." not in parts


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
    """Whether the file can be read and has certificates, or none is named."""
    try:
        return not path or (Path(path).is_absolute() and b"-----BEGIN CERTIFICATE-----" in Path(path).read_bytes())
    except OSError:
        return False


def _are_variables(pairs: Mapping[str, str]) -> bool:
    return all(_VARIABLE.fullmatch(name) and not set(text) & set("\n\r\0") for name, text in pairs.items())


FOLDER = Rule(_is_plain_path, f"a folder's whole path, from /, {_PLAIN}")
FOLDER_OR_NONE = Rule(lambda path: not path or _is_plain_path(path), FOLDER.words)
FILE = Rule(_is_plain_path, f"a file's whole path, from /, {_PLAIN}")
FILE_OR_NONE = Rule(lambda path: not path or _is_plain_path(path), FILE.words)
SOCKET = Rule(_is_plain_path, f"a whole path, from /, {_PLAIN}")
PORTS = Rule(
    lambda ports: 1024 <= ports[0] < ports[1] <= 65535,
    "two numbers from 1024 to 65535, the smaller first, such as [30000, 31999]",
)
LISTEN = Rule(_is_address, 'an address of this machine, such as "127.0.0.1", or "0.0.0.0" for all of them')
HOST = Rule(lambda text: not text or bool(_HOST.fullmatch(text)), "a host's name or address, such as gpu1.lab")
LAYER_SIZE = Rule(lambda size: size == 0 or number(0.05).allows(size), "at least 0.05, or 0 for no limit")
IMAGE = Rule(lambda name: bool(_IMAGE.fullmatch(name)), "an image's name")
URL = Rule(lambda text: text.startswith(("https://", "http://")), "an address that begins with https://")
ID_BASE = number(BOX_IDS, 2**32 - 2 - BOX_IDS)
VARIABLES = Rule(_are_variables, "names of letters, digits and _, texts of one line")
DNS_SERVERS = Rule(
    lambda found: all(map(is_reachable, found)),
    "IPv4 addresses that boxes can reach, not this machine's loopback",
)
DOMAINS = Rule(lambda found: all(map(_DOMAIN.fullmatch, found)), 'domain names, such as "lab.example"')
REPOSITORY = Rule(lambda text: not text or bool(_REPOSITORY.match(text)), "https://…, ssh://…, git://…, or file:///…")
COMMIT = Rule(lambda text: bool(_COMMIT.fullmatch(text)), "a commit's whole name: 40 hexadecimal digits")
CERTIFICATES = Rule(_is_pem, "the whole path of a file with certificates in PEM form")
TIMEZONE = Rule(_is_timezone, 'an IANA name, such as "Europe/Berlin"')
GPU_TYPES = Rule(all, "names of GPU types")
USERS = Rule(all, "names of Unix users")
CONTAINERS = Rule(all, "names of containers")
LABEL = Rule(lambda text: bool(_LABEL.fullmatch(text)), "a name as Kubernetes has them, such as odc.dev/gpu-type")
NAMESPACE = Rule(lambda text: bool(_NAMESPACE.fullmatch(text)), "at most 63 lower-case letters, digits and -")
PULL_POLICY = Rule(lambda text: text in _PULL_POLICIES, " or ".join(_PULL_POLICIES))
