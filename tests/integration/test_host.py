"""Files, locks and pid files on the real file system, with real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from odc.host import PidFile, is_locked, locked, poll_until, write_atomically


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_replaced_with_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"one", 0o644)
        assert ((tmp_path / "file").read_bytes(), mode_of(tmp_path / "file")) == (b"one", 0o644)
        write_atomically(tmp_path / "file", b"two", durable=True)
    finally:
        os.umask(before)
    assert ((tmp_path / "file").read_bytes(), mode_of(tmp_path / "file")) == (b"two", 0o600)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_may_be_given_to_another_user(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"one", owner=12345)
    facts = (tmp_path / "file").stat()
    assert (facts.st_uid, facts.st_gid) == (12345, 12345)


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "file").symlink_to(tmp_path / "other")
    write_atomically(tmp_path / "file", b"ours")
    assert (tmp_path / "other").read_text() == "theirs"
    assert not (tmp_path / "file").is_symlink()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"new")
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "absent" / "file", b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_readers_and_writers_at_once_see_whole_files(tmp_path: Path) -> None:
    contents = [bytes([letter]) * 100_000 for letter in b"abcd"]
    path = tmp_path / "file"
    write_atomically(path, contents[0])
    seen: set[bytes] = set()
    done = threading.Event()

    def write(content: bytes) -> None:
        for _ in range(20):
            write_atomically(path, content)

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert seen <= set(contents)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


HOLD = """
import sys
from pathlib import Path
from odc.host import locked

with locked(Path(sys.argv[1])):
    print(1, flush=True)
    input()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_held_against_other_processes_until_its_holder_ends(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock" if kind == "file" else tmp_path
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_locked(path)
        began = time.monotonic()
        with pytest.raises(BlockingIOError), locked(path, 0.1):
            pass
        assert time.monotonic() - began >= 0.1
        holder.kill()
    with locked(path, 5):
        assert is_locked(path)
    assert not is_locked(path)


def test_a_lock_that_was_never_taken_is_free(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "lock")
    assert not is_locked(tmp_path / "absent" / "lock")
    with locked(tmp_path / "lock") as descriptor:
        os.write(descriptor, b"note")
    assert ((tmp_path / "lock").read_text(), mode_of(tmp_path / "lock")) == ("note", 0o600)


def test_polling_returns_the_first_true_value_or_the_last_false_one() -> None:
    values = iter(["", "", "found", "later"])
    assert poll_until(lambda: next(values), 5, 0.001) == "found"
    assert poll_until(lambda: 0, 0.01, 0.001) == 0
    assert poll_until(lambda: "at once", -1) == "at once"


def test_a_pid_file_names_only_the_very_process(tmp_path: Path) -> None:
    word = f"unix://{tmp_path}/socket"
    noted = PidFile(tmp_path / "pid", word)
    assert noted.running() is None
    command = [sys.executable, "-c", "input()", word]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        noted.write(process.pid)
        assert poll_until(noted.running, 5) == process.pid
        assert PidFile(noted.path, word + "2").running() is None
        noted.write(os.getpid())
        assert noted.running() is None
        noted.signal(signal.SIGKILL)
        noted.write(process.pid)
        noted.signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
    assert noted.running() is None
    (tmp_path / "pid").write_text("no number")
    assert noted.running() is None
    noted.remove()
    noted.remove()
