"""Writes options of `odc up` to the settings file, where an operator can read and change them.

Comments and all other lines stay as they are. A line is changed as text, and the result is parsed and compared with the
intended settings: a file in an unsupported form, such as one with multi-line strings, is refused and not changed.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest, ProviderRefused
from odc.host import write_atomically
from odc.operator.settings import Settings
from odc.operator.settings_check import as_toml

HEAD = "# Settings of ODC. All keys: docs/reference/settings.md. `odc up` writes its options here.\n"
OPTIONS = ("simulate", "disks")
"""Settings that are options of `odc up` too."""


def with_settings(text: str, changes: Mapping[str, str]) -> str:
    """Return the text of a settings file with some settings changed, or added after the last one.

    Args:
        text: a TOML document.
        changes: setting at the top level to its new value.

    Raises:
        InvalidRequest: the text has one of them in a form that cannot be changed here.
    """
    wanted = {**tomllib.loads(text), **changes}
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    for name, value in changes.items():
        _set(lines, name, as_toml(name, value), end)
    fresh = "".join(lines)
    # Lines inside a multi-line string or list can look like a key or a table header.
    with contextlib.suppress(tomllib.TOMLDecodeError):
        if tomllib.loads(fresh) == wanted:
            return fresh
    by_hand = ", ".join(as_toml(name, value) for name, value in changes.items())
    raise InvalidRequest("the settings file cannot be changed by this command", ("write there", by_hand))


def _set(lines: list[str], name: str, assignment: str, end: str) -> None:
    """Change or add one line; the comment behind a value stays."""
    top = next((index for index, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    pattern = re.compile(rf"""(\s*){name}\s*=\s*(?:"(?:[^"\\]|\\.)*"|'[^']*')(\s*(?:\#.*)?)""", re.DOTALL)
    for index in range(top):
        if found := pattern.fullmatch(lines[index]):
            lines[index] = f"{found[1]}{assignment}{found[2]}"
            return
    place = _place_for_new(lines[:top], top == len(lines))
    if place and not lines[place - 1].endswith("\n"):
        lines[place - 1] += end
    lines.insert(place, assignment + end)


def _place_for_new(top: list[str], is_all: bool) -> int:
    """Return the line after the last setting; without settings, the line after the first comment, unless that belongs
    to a table.
    """
    keys = [index for index, line in enumerate(top) if line.strip() and not line.lstrip().startswith("#")]
    if keys:
        return keys[-1] + 1
    comments = next((index for index, line in enumerate(top) if not line.strip()), len(top))
    return comments if is_all or comments < len(top) else 0


@contextlib.contextmanager
def written(file: Path, options: Mapping[str, str], intent: Path | None = None) -> Iterator[str]:
    """Write the options to the settings file. If the block fails, the file is restored.

    Args:
        file: made with its folder if it is not there.
        options: setting to value.
        intent: a file that names the written options until the end of the block, for `unfinished`; None for none.

    Yields:
        The written lines, as TOML; empty if the file has them already.

    Raises:
        InvalidRequest, ProviderRefused: the file cannot be changed. It is unchanged.
    """
    path = file.resolve()
    old = path.read_bytes() if path.exists() else None
    text = HEAD if old is None else old.decode()
    present = tomllib.loads(text)
    plain = Settings()
    new = {name: value for name, value in options.items() if present.get(name, getattr(plain, name)) != value}
    if not new:
        yield ""
        return
    fresh = with_settings(text, new).encode()
    said = ", ".join(as_toml(name, value) for name, value in new.items())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if (path.read_bytes() if path.exists() else None) != old:
            raise ProviderRefused(f"{file} was changed by another program at the same moment; it is unchanged")
        if intent is not None:
            write_atomically(intent, msgspec.json.encode(new), durable=True)
        _replace(path, fresh)
    except OSError as error:
        raise ProviderRefused(f"{file} cannot be written: {error.strerror}", ("write there", said)) from error
    try:
        yield said
    except BaseException:
        if path.exists():
            before = {name: as_toml(name, present[name]) if name in present else "" for name in new}
            _put_back(path, old, fresh, {as_toml(name, value): before[name] for name, value in new.items()})
        raise
    finally:
        if intent is not None:
            intent.unlink(missing_ok=True)


def unfinished(file: Path, intent: Path) -> str:
    """Return the lines that a process wrote to the settings file before it was killed; the intent is deleted.

    The lines stay: they are what that process was asked to write, and a daemon may run with them.

    Args:
        file: the settings file.
        intent: the file that `written` got.

    Returns:
        The lines that are still in the file, as TOML; empty if there are none.
    """
    try:
        meant = msgspec.json.decode(intent.read_bytes(), type=dict[str, str])
        present = tomllib.loads(file.read_text())
    except (OSError, ValueError, msgspec.MsgspecError):
        meant, present = {}, {}
    intent.unlink(missing_ok=True)
    return ", ".join(as_toml(name, value) for name, value in meant.items() if present.get(name) == value)


def _replace(path: Path, content: bytes) -> None:
    """Write the file with the owner, group and mode that it has."""
    if path.exists():
        facts = path.stat()
        write_atomically(path, content, facts.st_mode & 0o777, owner=(facts.st_uid, facts.st_gid), durable=True)
    else:
        write_atomically(path, content, 0o644, durable=True)


def _put_back(path: Path, old: bytes | None, fresh: bytes, lines: Mapping[str, str]) -> None:
    """Restore the file; in one that somebody has changed since, only the lines that still are as they were written.

    Args:
        path: of the file.
        old: its content before; None if there was no file.
        fresh: its content as it was written.
        lines: each setting as it was written, to the same as it was before; empty if the file did not have it.
    """
    now = path.read_bytes()
    if now != fresh:
        _replace(path, _taken_back(now.decode(errors="surrogateescape"), lines).encode(errors="surrogateescape"))
    elif old is None:
        path.unlink()
    else:
        _replace(path, old)


def _taken_back(text: str, lines: Mapping[str, str]) -> str:
    kept = []
    for line in text.splitlines(keepends=True):
        ours = next((ours for ours in lines if re.match(rf"\s*{re.escape(ours)}\s*(#|$)", line)), None)
        if ours is None:
            kept.append(line)
        elif lines[ours]:  # a comment behind the value stays
            kept.append(line.replace(ours, lines[ours], 1))
    return "".join(kept)


def take_over(settings: Settings, file: Path, given: Collection[str], say: Callable[[str], None]) -> bool:
    """Move the options that version 0.1.0 remembered next to the records to the settings file, once.

    Args:
        settings: as the file and the command line have them.
        file: the settings file.
        given: options of this call, which override them.
        say: called with what was written.

    Returns:
        Whether the settings file was changed.

    Raises:
        InvalidRequest, ProviderRefused: the file cannot be changed; the options are still remembered.
    """
    remembered = settings.state_folder / "typed.json"
    try:
        options = msgspec.json.decode(remembered.read_bytes(), type=dict[str, str])
    except OSError:
        return False
    except msgspec.MsgspecError:
        options = {}
    plain = Settings()
    unsaid = [name for name in OPTIONS if name not in given and getattr(settings, name) == getattr(plain, name)]
    with written(file, {name: options[name] for name in unsaid if options.get(name)}) as said:
        remembered.unlink()
    if said:
        say(f"Wrote {said} to {file}: an earlier version of ODC remembered it from " + odc("up"))
    return bool(said)
