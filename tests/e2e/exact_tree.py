"""Runs in a box, as its root: makes a folder with everything that a copy may lose, or lists it exactly."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

TOP = Path("/home/dev/exact")
MOMENT = 1_600_000_000_123_456_789
NAMES = (b"two\nlines", b"caf\xe9", b" ", b"-rf", b"x" * 255, b"of-root", b"of-dev", b"of-nobody", b"setuid")


def make() -> None:
    """Make the folder, and set the times last."""
    TOP.mkdir()
    os.chdir(TOP)
    for name in NAMES:
        Path(os.fsdecode(name)).write_bytes(name * 3)
    os.chown("of-dev", 1000, 1000)
    os.chown("of-nobody", 65534, 4711)
    Path("of-root").chmod(0o400)
    Path("setuid").chmod(0o6751)
    Path("empty").mkdir()
    Path("shared").mkdir()
    os.chown("shared", 0, 1000)
    Path("shared").chmod(0o3775)
    os.mkfifo("pipe", 0o620)
    Path("shared/same").hardlink_to("of-dev")
    Path("broken").symlink_to(os.fsdecode(b"nowhere\xff"))
    Path("outside").symlink_to("/etc/passwd")
    with Path("sparse").open("wb") as file:
        file.seek(64 * 2**20)
        file.write(b"end")
    os.setxattr("of-dev", "user.note", bytes(range(256)))
    os.setxattr("of-root", "user.empty", b"")
    for number, path in enumerate(reversed(everything())):
        os.utime(path, ns=(MOMENT, MOMENT + number), follow_symlinks=False)


def everything() -> list[Path]:
    """The folder and all that is in it, by path."""
    return sorted([TOP, *TOP.rglob("*")])


def describe(path: Path) -> str:
    """All that is known of it, in one line."""
    facts = path.lstat()
    if path.is_symlink():
        holds = repr(os.fsencode(path.readlink()))
    else:
        holds = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    names = os.listxattr(path, follow_symlinks=False)
    notes = {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}
    numbers = (facts.st_uid, facts.st_gid, facts.st_size, facts.st_blocks, facts.st_nlink, facts.st_ino)
    return f"{os.fsencode(path)!r} {facts.st_mode:o} {numbers} {facts.st_mtime_ns} {holds} {notes}"


if sys.argv[1] == "make":
    make()
print("\n".join(describe(path) for path in everything()))
