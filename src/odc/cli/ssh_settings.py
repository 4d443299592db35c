"""What the user's own ssh configuration contains, as ssh itself reads it: hosts, and the lines that set options.

`ssh -G -vvv NAME` prints the effective options, the files that it reads, and the line of every `Host` and `Match` block
that applies to NAME. Nothing is connected. A `Match exec` of the user's runs, as it does before every connection.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from odc.cli.ssh_include import BEGIN, END

TIMEOUT_S = 10.0
OWN_HOSTS_TIMEOUT_S = 2.0
"""Time limit in seconds for reading the user's own hosts: every command does it, and a `Match exec` of the user's can
wait for a network.
"""
_READ = re.compile(r"debug1: Reading configuration data (.+)")
_HOST_APPLIES = re.compile(r"debug1: (.+) line (\d+): Applying options for ")
_MATCH_TRIED = re.compile(r"debug3: (.+) line (\d+): (?:not )?matched ")
_MATCH_APPLIES = "debug2: match found"
_OPTION = re.compile(r"\s*([A-Za-z0-9]+)[\s=]+(.*)")
_PORT = re.compile(r"\[(.+)\]:\d+")
"""How known hosts name a host with a port other than 22."""
_USUAL_PORTS = (2222, 222, 2022, 22222)
"""Ports other than 22 that are tried for hashed names: each line costs a hash for each of them."""
_ADDITIONS = frozenset(
    {
        "localforward",
        "remoteforward",
        "dynamicforward",
        "exitonforwardfailure",
        "setenv",
        "sendenv",
        "requesttty",
        "remotecommand",
    }
)
"""Options that add to the entry of a reservation and do not designate another machine."""


class Place(NamedTuple):
    """A line of a file, from 1."""

    file: str
    line: int

    def shown(self, home: Path) -> str:
        """`~/.ssh/config:12`."""
        path = Path(self.file)
        return f"{'~' / path.relative_to(home) if path.is_relative_to(home) else path}:{self.line}"


class Trace(NamedTuple):
    """The output of `ssh -G` for a name.

    Attributes:
        code: its exit code; -1 if it did not run or did not end in time; then there is only what it printed so far.
        options: lower-case option to its first value.
        errors: what it printed on standard error, without its debug lines.
        files: the files that it read, in order.
        blocks: where the Host and Match blocks that apply begin, in order.
    """

    code: int
    options: dict[str, str]
    errors: list[str]
    files: list[str]
    blocks: list[Place]


def trace(ssh: Sequence[str], name: str) -> Trace:
    """Return how ssh resolves a name; nothing is connected.

    Args:
        ssh: the ssh command with everything but the name.
        name: the host to connect to.
    """
    return next(_traces(ssh, [name]))


def _traces(ssh: Sequence[str], names: Sequence[str], limit_s: float = TIMEOUT_S) -> Iterator[Trace]:
    """Yield the traces of several names, run in parallel, within this time limit in total."""
    running: list[subprocess.Popen[str] | None] = []
    for name in names:
        try:
            running.append(_start([*ssh, "-T", "-G", "-vvv", name]))
        except OSError:
            running.append(None)
    end = time.monotonic() + limit_s
    try:
        for process in running:
            left_s = max(end - time.monotonic(), 0.01)
            yield Trace(-1, {}, [], [], []) if process is None else _finished(process, left_s)
    finally:
        for process in running:
            if process is not None and process.poll() is None:
                _kill(process)


def _start(words: Sequence[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True
    )


def _kill(process: subprocess.Popen[str]) -> None:
    """End ssh and its children: a running `Match exec` would keep the pipes open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _finished(process: subprocess.Popen[str], limit_s: float) -> Trace:
    try:
        out, err = process.communicate(timeout=limit_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _kill(process)
        out, err = process.communicate()
        code = -1
    options: dict[str, str] = {}
    for line in out.splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key, value)
    return _parsed(code, options, err.splitlines())


def _parsed(code: int, options: dict[str, str], lines: Iterable[str]) -> Trace:
    result = Trace(code, options, [], [], [])
    tried: Place | None = None
    for line in lines:
        if found := _READ.fullmatch(line):
            result.files.append(found[1])
        elif found := _HOST_APPLIES.match(line):
            result.blocks.append(Place(found[1], int(found[2])))
        elif found := _MATCH_TRIED.match(line):
            tried = Place(found[1], int(found[2]))
        elif line.startswith("debug2: checking match for "):
            tried = None
        elif line == _MATCH_APPLIES and tried:
            result.blocks.append(tried)
        elif not re.match(r"debug\d: |OpenSSH_", line):
            result.errors.append(line)
    return result


def own_hosts(names: Sequence[str], ours: Path) -> dict[str, Place]:
    """Return the names that the user's own configuration uses for other machines, with the line of the block.

    A block counts if it applies to the name and not to every name; by pattern, by Include and by Match too. A block
    that only adds forwardings or variables goes together with an entry of ours and does not count. Where ssh does not
    answer in time, the `Host` lines that it has come to are compared instead.

    Args:
        names: names of reservations or boxes.
        ours: the folder of our own files, whose blocks do not count.
    """
    other = f"x{os.urandom(8).hex()}"
    control, *found = list(_traces(["ssh"], [other, *names], OWN_HOSTS_TIMEOUT_S))
    everywhere = set(control.blocks)
    result = {}
    for name, seen in zip(names, found, strict=True):
        known = control.code != -1 and seen.code != -1
        blocks = seen.blocks if known else _named({*control.files, *seen.files}, name)
        places = [place for place in blocks if place not in everywhere and not _is_ours(place, ours)]
        places = [place for place in places if not _only_adds(place)]
        if places:
            result[name] = places[0]
    return result


def _named(files: Iterable[str], name: str) -> list[Place]:
    """Return the `Host` lines in these files with a pattern for this name, except patterns for every name."""
    return [
        Place(file, number)
        for file in sorted(files)
        for number, key, line in _entries(file)
        if key == "host" and any(pattern.strip("*") and fnmatchcase(name, pattern) for pattern in line.split()[1:])
    ]


def known_hosts(path: Path, names: Sequence[str]) -> dict[str, Place]:
    """Return those of these names that are in the user's file of known hosts, with the line."""
    found: dict[str, Place] = {}
    for number, line in enumerate(_lines(str(path)), 1):
        words = line.split()
        hosts = next((word for word in words if not word.startswith("@")), "")
        for name in names:
            if name not in found and _is_in(name, hosts):
                found[name] = Place(str(path), number)
    return found


def machine_hosts(path: Path, names: Sequence[str]) -> dict[str, Place]:
    """Return those of these names that the machine's file of hosts has, with the line.

    Args:
        path: `/etc/hosts`.
        names: names of reservations or boxes, in lower case.
    """
    found: dict[str, Place] = {}
    for number, line in enumerate(_lines(str(path)), 1):
        hosts = line.partition("#")[0].lower().split()[1:]
        for name in set(names).intersection(hosts) - found.keys():
            found[name] = Place(str(path), number)
    return found


def _is_in(name: str, hosts: str) -> bool:
    """Whether the first field of a line of known hosts has this name, in plain text or hashed (`HashKnownHosts`).

    The port is hashed with the name, so a hashed name is found with the usual ports only.
    """
    if not hosts.startswith("|1|"):
        return any(name in (host, _PORT.sub(r"\1", host)) for host in hosts.split(","))
    salt, _, digest = hosts.removeprefix("|1|").partition("|")
    try:
        key, hashed = base64.b64decode(salt), base64.b64decode(digest)
    except ValueError:
        return False
    spellings = (name, *(f"[{name}]:{port}" for port in _USUAL_PORTS))
    return any(hmac.digest(key, spelling.encode(), "sha1") == hashed for spelling in spellings)


def _is_ours(place: Place, ours: Path) -> bool:
    """Whether the block is in one of our files, or between our marks in a file of the user's."""
    if Path(place.file).parent == ours:
        return True
    before = _lines(place.file)[: place.line]
    return BEGIN in before and END not in before[before.index(BEGIN) :]


def _only_adds(place: Place) -> bool:
    options = [key for _, key, _ in _options(place.file, place.line + 1)]
    return bool(options) and _ADDITIONS.issuperset(options)


def find_option(seen: Trace, keys: Iterable[str], ours: Path) -> tuple[Place, str] | None:
    """Return the place and line that sets one of these options for the traced name; None if none is set.

    Args:
        seen: the trace of the name.
        keys: options in lower case, the likely ones first.
        ours: the folder of our own files, which do not count.
    """
    found: dict[str, tuple[Place, str]] = {}
    for place, key, line in _set_options(seen, ours):
        found.setdefault(key, (place, line))
    return next((found[key] for key in keys if key in found), None)


def _set_options(seen: Trace, ours: Path) -> Iterator[tuple[Place, str, str]]:
    """Yield place, option and line of every option that the user sets for the traced name, in the order in which ssh
    reads them.
    """
    blocks = frozenset(seen.blocks)
    for file in seen.files:
        starts = [0, *(number for number, key, _ in _entries(file) if key in ("host", "match"))]
        for start in starts:
            applies = start == 0 or Place(file, start) in blocks or _is_match_all(file, start)
            if not applies or _is_ours(Place(file, max(start, 1)), ours):
                continue
            for number, key, line in _options(file, start + 1):
                yield Place(file, number), key, line


def _is_match_all(file: str, number: int) -> bool:
    return _lines(file)[number - 1].lower().split()[:2] == ["match", "all"]


def _options(file: str, first: int) -> Iterator[tuple[int, str, str]]:
    """Yield line number, option and line from this line to the end of the block."""
    for number, key, line in _entries(file):
        if number >= first:
            if key in ("host", "match"):
                return
            yield number, key, line


def _entries(file: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(_lines(file), 1):
        if found := _OPTION.match(line):
            yield number, found[1].lower(), line.strip()


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(errors="replace").splitlines()
    except OSError:
        return []
