"""The operator's settings from their file, checked: every mistake is refused by name before anything is done."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from odc.domain.catalog import GpuType
from odc.domain.errors import InvalidRequest
from odc.operator.settings import DEFAULT_FILE, TABLES, Settings
from odc.operator.settings_check import check_settings, unknown_key, wrong_type

_STATE = re.compile(r"""^\s*state\s*=\s*(?P<quote>["'])(?P<folder>[^"'\\]+)(?P=quote)""", re.MULTILINE)


def read_settings(file: Path | None, changes: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of a file, overridden by the command line.

    Args:
        file: None for the usual file, which need not exist.
        changes: setting to value; None values change nothing.

    Raises:
        InvalidRequest: the file cannot be read, or a setting is unknown or out of its range; the message names it.
    """
    path = file or DEFAULT_FILE
    values = _read(path) if file is not None or path.exists() else {}
    values |= {key: value for key, value in (changes or {}).items() if value is not None}
    unknown_key(values, Settings, str(path))
    tables: dict[str, type[msgspec.Struct]] = {**TABLES, "types": GpuType}
    for key, kind in tables.items():
        inner = values.get(key)
        for table in inner if isinstance(inner, list) else [inner]:
            if isinstance(table, dict):
                unknown_key(table, kind, str(path), key)
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise wrong_type(error, str(path), Settings) from error
    check_settings(settings, str(path))
    return settings


def find_state_folder(file: Path) -> Path:
    """Return the state folder that a settings file names, whatever mistakes the file has; the usual one if it names
    none.
    """
    try:
        text = file.read_text(errors="replace")
    except OSError:
        text = ""
    try:
        named = tomllib.loads(text).get("state")
    except tomllib.TOMLDecodeError:
        line = _STATE.search(text)
        named = line["folder"] if line else None
    return Settings(state=named).state_folder if isinstance(named, str) and named else Settings().state_folder


def _read(path: Path) -> dict[str, object]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, object])
    except OSError as error:
        raise InvalidRequest(f"the settings in {path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidRequest(f"the settings in {path} are not valid TOML: {error}") from error
