"""Makes `docs/reference/json.md` from the messages themselves: `python -m odc.operator.json_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import inspect

from odc.api.messages.cloud import Availability, StatusView
from odc.api.messages.reservations import History, ReservationList, ReservationView
from odc.api.messages.users import Me, UserList
from odc.operator.docstrings import meanings

PAGE = Path("docs/reference/json.md")
COMMANDS: dict[str, type[msgspec.Struct]] = {
    "gpu-dev list --json": ReservationList,
    "gpu-dev show NAME --json": ReservationView,
    "gpu-dev show NAME --history --json": History,
    "gpu-dev reserve … --json": ReservationView,
    "gpu-dev wait NAME --json": ReservationView,
    "gpu-dev cancel NAME --json": ReservationView,
    "gpu-dev avail --json": Availability,
    "gpu-dev status --json": StatusView,
    "gpu-dev config show --json": Me,
    "odc user list --json": UserList,
}
"""Command to the object that it prints."""
_HEAD = """# JSON

Made from the messages by `make docs`; do not edit. How scripts use it: [the guide](../guide.md#in-scripts).

With `--json` a command prints one JSON value on standard output and nothing else; an error is one JSON object
on standard error, and the exit code says that there was one. Text is UTF-8, or ASCII with `\\u` escapes where
the locale has no UTF-8.

**What stays.** Scripts may rely on every field below: within a major version (all of 0.x is one) none is removed or
renamed, none changes its type or unit, and none becomes `null` that is not marked so. Fields, commands and words such
as a new `state` or `kind` may be added at any time: ignore what you do not know. The order of fields, and the
wording of `message`, `reason`, `trouble`, `text`, `hint` and of everything that is a sentence, may change.

**Kinds.** A *time* is RFC 3339 in UTC, such as `2030-01-31T14:20:00Z`, with or without fractions of a second.
`now` is the server's clock: compare with it, not with your own. A *number* may have a fraction; bytes are
whole. Lists may be empty; an empty text means that there is nothing to say.

| command | prints |
|---|---|
"""
_SPECIAL = """| `gpu-dev cancel A B --json`, also `--all` | a list of [ReservationView](#reservationview) |
| `gpu-dev config set KEY VALUE --json` | `key`, `value`, and `message`: what was done, as a sentence |
| `odc doctor --json` | a list of `level` (`ok`, `warn` or `fail`), `subject`, `text` and `hint` |

`gpu-dev config show --json` adds to [Me](#me): `endpoint`, the address of the cloud; `context`, its name in names for
ssh; `settings`, the file of your settings; `answers`, whether the cloud answers (without it, what only the cloud knows
is `null`); and `ssh_files`, a list of `path`, `included` and `in_effect` (`null` where there is no box to try).

An error has `error`, the class (`InvalidRequest`, `NotFound`, `NotAllowed`, `LimitExceeded`, `RateLimited`: exit
code 2; `InvariantError`: 70; every other one: 1); `message`; `when`, the time that the message ends with, or
`null`; `hint`, the first command to try, or empty; and `hints`, all of them, each with `label`, which says what it
is for, and `command`.

The HTTP API on the socket answers with the same objects. A request to it is an object of `id`, 32 hexadecimal
digits that the client makes (a repeat with the same id acts once), and `request`, whose `kind` says what is
wanted; the OpenAPI document is `/v1/openapi.json`, and [here](openapi.json). There, unlike here,
fields that are not known are refused.
"""
_PLAIN = {
    inspect.StrType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
    inspect.DateTimeType: "time",
}


def structs() -> list[type[msgspec.Struct]]:
    """Return every object that a command prints, each before its parts."""
    found: list[type[msgspec.Struct]] = []
    for kind in COMMANDS.values():
        found += [inner for inner in _with_parts(kind) if inner not in found]
    return found


def _with_parts(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    yield kind
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        for inner in _parts(field.type):
            yield from _with_parts(inner)


def _parts(kind: inspect.Type) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, inspect.StructType):
        yield kind.cls
    elif isinstance(kind, inspect.VarTupleType):
        yield from _parts(kind.item_type)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _parts(one)


def page() -> str:
    """The whole page."""
    rows = "".join(f"| `{command}` | {_link(kind)} |\n" for command, kind in COMMANDS.items())
    return _HEAD + rows + _SPECIAL + "".join(_section(kind) for kind in structs())


def _link(kind: type) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _section(kind: type[msgspec.Struct]) -> str:
    said = meanings(kind)
    lines = ["| field | kind | what |", "|---|---|---|"]
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        lines.append(f"| `{field.name}` | {_kind(field.type)} | {said.get(field.name, '')} |")
    first = (kind.__doc__ or "").strip().splitlines()[0]
    return f"\n## {kind.__name__}\n\n{first}\n\n" + "\n".join(lines) + "\n"


def _kind(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.StructType):
        return _link(kind.cls)
    if isinstance(kind, inspect.VarTupleType):
        return f"list of {_kind(kind.item_type)}"
    if isinstance(kind, inspect.DictType):
        return f"object of {_kind(kind.value_type)}"
    if isinstance(kind, inspect.UnionType):
        return " or ".join(_kind(one) for one in kind.types if not isinstance(one, inspect.NoneType)) + ", or null"
    if isinstance(kind, inspect.EnumType):
        return "one of " + ", ".join(f"`{word}`" for word in kind.cls)
    return _PLAIN[type(kind)]


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page())
