"""Options of ssh that keep a user out of every box, and that an older ssh does not know. Reads files only.

An ssh that does not know an option refuses the whole configuration, so an entry names such an option only if the user's
or the machine's own configuration does: then every ssh that reads it knows the option. One that `IgnoreUnknown` lists
is left out, since the configuration is read by an ssh that does not know it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from glob import glob
from pathlib import Path
from typing import NamedTuple

from odc.cli.ssh_include import ssh_file, without_managed_block

NEWER = {"SessionType": "default", "StdinNull": "no", "ForkAfterAuthentication": "no", "KnownHostsCommand": "none"}
"""Option to the value that lets the user in. OpenSSH 8.5 and 8.7 introduced them."""
FOR_EVERY_HOST = {"RemoteCommand": "none"}
"""The same, but an option of this kind that is set for one reservation only is intended and kept."""
MACHINE_FILE = Path("/etc/ssh/ssh_config")
_OPTION = re.compile(r"\s*([A-Za-z0-9]+)[\s=]+(.*)")
_MAX_DEPTH = 16
"""Of files that include others, as in ssh."""


def override_lines(home: Path, ours: Path, machine_file: Path = MACHINE_FILE) -> str:
    """Return the lines of a Host block that override those options of this kind that are set somewhere.

    Args:
        home: the home whose `.ssh/config` ssh reads.
        ours: the folder of our own entries, which are not read.
        machine_file: the configuration of the machine.
    """
    options = {key.lower(): f"  {key} {value}\n" for key, value in (NEWER | FOR_EVERY_HOST).items()}
    general_only = {key.lower() for key in FOR_EVERY_HOST}
    found: set[str] = set()
    ignored: list[str] = []
    for file in (ssh_file(home), machine_file):
        for key, value, is_general in _Reader(home, ours, file.parent).settings(file):
            if key == "ignoreunknown":
                ignored += value.lower().strip('"').split(",")
            elif key in options and (is_general or key not in general_only):
                found.add(key)
    known = (key for key in found if not any(fnmatchcase(key, pattern.strip()) for pattern in ignored))
    return "".join(options[key] for key in sorted(known))


class _Reader(NamedTuple):
    """Reads a configuration with the files that it includes.

    Attributes:
        home: what `~` means.
        ours: a folder whose files are skipped.
        folder: what a relative path in an Include line belongs to.
    """

    home: Path
    ours: Path
    folder: Path

    def settings(self, file: Path, is_general: bool = True, depth: int = 0) -> Iterator[tuple[str, str, bool]]:
        """Yield option in lower case, value, and whether it is set for every host."""
        try:
            text = without_managed_block(file.read_text(errors="surrogateescape"))
        except OSError:
            return
        for option in filter(None, map(_OPTION.match, text.splitlines())):
            key, value = option[1].lower(), option[2].strip()
            if key in ("host", "match"):
                is_general = value.lower() in ("*", "all")
            elif key == "include" and depth < _MAX_DEPTH:
                for path in self._included(value):
                    yield from self.settings(path, is_general, depth + 1)
            else:
                yield key, value, is_general

    def _included(self, value: str) -> Iterator[Path]:
        try:
            patterns = shlex.split(value)
        except ValueError:
            patterns = value.split()
        for pattern in patterns:
            pattern = f"{self.home}{pattern[1:]}" if pattern.startswith("~/") else pattern
            found = glob(f"{self.folder / pattern}")  # noqa: PTH207 (as in ssh, `*` does not match a hidden file)
            yield from (path for path in map(Path, sorted(found)) if path.parent != self.ours)
