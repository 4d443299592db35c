"""Names and ids: the rules for names, and suggestions for mistyped ones.

A name goes into host names, ssh configurations and file names, so it is a DNS label; it never reaches a shell.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest

NO_DISK = "none"
_MEANS_NO_DISK = frozenset({"no", "non", "nne", "noen", "nonee", "noone", "nnone", "nil", "null", "false"})
DEFAULT_DISK = "default"
SHORT_ID = 8
MAX_NAME = 40
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_GITHUB_USER = re.compile(r"(?=[_-]*[A-Za-z0-9])[A-Za-z0-9_-]{1,39}", re.ASCII)
_GITHUB_PAGE = re.compile(r"(?:https?://)?(?:www\.)?github\.com/([A-Za-z0-9_-]{1,39})(?:\.keys)?/?", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_RESERVED = frozenset({NO_DISK, "all", "localhost"})


def check_name(name: str, what: str) -> str:
    """Return the name if it is allowed.

    Args:
        name: 1 to 40 of a-z, 0-9 and `-`, no `-` at either end (a DNS label, RFC 1123, shortened so that
            `<name>-<rank>` stays one).
        what: the word for messages, such as `disk`.

    Raises:
        InvalidRequest: it is not allowed; the message names the rule.
    """
    if not _LABEL.fullmatch(name) or name in _RESERVED:
        raise InvalidRequest(
            f"{what} name {cut(name)!r} is not allowed: use 1 to 40 of a-z, 0-9 and '-', "
            f"no '-' at the ends, and not {' or '.join(map(repr, sorted(_RESERVED)))}"
        )
    return name


def check_length(text: str, what: str) -> None:
    """Refuse a text that is longer than any name, before it is looked up, compared or repeated.

    Raises:
        InvalidRequest: it is longer.
    """
    if len(text) > 2 * MAX_NAME:
        raise InvalidRequest(f"{what} {cut(text)!r} is longer than any there is")


def check_github_user(name: str) -> str:
    """Return the GitHub login if it is possible: letters, digits, `-` and `_`; at most 39.

    Today's rule for new logins (no `-` at the ends, no `--`) is not GitHub's for old ones: `foo-`, `a--b` and `-jerry-`
    are live. `_` is in the logins of enterprises, `jane_corp`.

    Raises:
        InvalidRequest: it cannot be a login.
    """
    if len(name) <= 200 and _GITHUB_USER.fullmatch(name):
        return name
    meant = name.removeprefix("@")
    page = _GITHUB_PAGE.fullmatch(meant) if len(name) <= 200 else None
    meant = page[1] if page else meant
    ways = (("the name alone", gpu_dev(f"config set github_user {meant}")),) if _GITHUB_USER.fullmatch(meant) else ()
    text = f"{cut(name)!r} is not a GitHub user name: letters, digits, '-' and '_', at most 39"
    raise InvalidRequest(text, *ways)


def cut(text: str, most: int = MAX_NAME) -> str:
    """Return the text shortened for a message: users can send very long texts."""
    return text if len(text) <= most else text[: most - 3] + "..."


def is_id(text: str) -> bool:
    """Whether this is a whole id: 32 hexadecimal digits."""
    return bool(_ID.fullmatch(text))


def short(identifier: str) -> str:
    """Return the first eight characters of an id, the form that people see and type."""
    return identifier[:SHORT_ID]


def near_match(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant; None if there is none. An exact match is not returned."""
    if len(name) > 2 * MAX_NAME:
        return None
    candidates = [other for other in known if other != name]
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=0.75)
    return found[0] if found else None


def probable_slip(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably mistyped as this one; None if there is none. Names that differ in a
    number are not.
    """
    return near_match(name, [other for other in known if _without_digits(other) != _without_digits(name)])


def probable_disk(name: str, known: Iterable[str]) -> str | None:
    """Return the disk, or `none`, that was probably mistyped as this name; None if there is none."""
    return NO_DISK if name in _MEANS_NO_DISK else probable_slip(name, known)


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "", name)


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, or the first of `wanted-2`, `wanted-3`, … that is not taken."""
    used = set(taken)
    if wanted not in used:
        return wanted
    number = 2
    while (name := _numbered(wanted, number)) in used:
        number += 1
    return name


def _numbered(wanted: str, number: int) -> str:
    """Return `wanted-2`, shortened to the allowed length of names."""
    ending = f"-{number}"
    return wanted[: MAX_NAME - len(ending)].rstrip("-") + ending
