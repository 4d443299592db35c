"""What a daemon keeps under names that others may delete: its socket, its log, its note of what it has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.small_cloud import small_cloud

from odc.api.client import Client
from odc.operator.host_claims import check_claim, claim_of, claimed, keep_claim, one_command
from odc.operator.settings import Settings

TALK = """
import logging, sys
from pathlib import Path
from odc.operator.logs import set_up_logs
set_up_logs(file=Path(sys.argv[1]))
for line in sys.stdin:
    logging.getLogger("talk").info(line.strip())
    print(line.strip(), flush=True)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "odc.log"


@pytest.fixture
def talker(log: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that logs each line that it is given, to a file that its starter has opened."""
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", TALK, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            bufsize=1,
        )
    with process:
        yield process
        process.kill()


def say(talker: subprocess.Popen[str], line: str) -> None:
    assert talker.stdin is not None
    assert talker.stdout is not None
    talker.stdin.write(f"{line}\n")
    talker.stdin.flush()
    assert talker.stdout.readline() == f"{line}\n"


def test_a_moved_log_is_begun_again_under_its_name(talker: subprocess.Popen[str], log: Path) -> None:
    say(talker, "first")
    old = log.rename(log.with_suffix(".1"))
    say(talker, "second")
    assert "second" in log.read_text()
    assert "second" not in old.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_deleted_log_is_begun_again(talker: subprocess.Popen[str], log: Path) -> None:
    say(talker, "first")
    log.unlink()
    say(talker, "second")
    assert "second" in log.read_text()


def test_a_truncated_log_goes_on_at_its_beginning(talker: subprocess.Popen[str], log: Path) -> None:
    say(talker, "first")
    log.write_text("")
    say(talker, "second")
    assert log.read_text().startswith('{"time"')


def test_a_log_whose_folder_is_gone_stops_nothing(talker: subprocess.Popen[str], log: Path) -> None:
    say(talker, "first")
    moved = log.parent.rename(log.parent.with_name("moved"))
    say(talker, "second")
    assert "second" in (moved / log.name).read_text()


def test_a_deleted_note_of_what_a_cloud_has_is_written_again(tmp_path: Path) -> None:
    settings = Settings(cloud="noted", state=str(tmp_path / "state"), socket=str(tmp_path / "s"))
    settings.state_folder.mkdir()
    folder = tmp_path / "clouds"
    with claimed(settings, (), folder):
        assert not keep_claim(settings, (), folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert keep_claim(settings, (), folder)
    assert str(claim_of(settings).socket) in next(folder.glob("*.json")).read_text()


def test_a_cloud_without_a_network_of_its_own_is_in_nobody_s_way(tmp_path: Path) -> None:
    ours = Settings(cloud="ours", state=str(tmp_path / "ours"), socket=str(tmp_path / "ours.sock"))
    other = Settings(cloud="other", state=str(tmp_path / "other"), socket=str(tmp_path / "other.sock"))
    claim = replace(claim_of(other), network="", ports=(0, 0), listen="", disks="", ids=(0, 0))
    other.state_folder.mkdir()
    (tmp_path / "other.json").write_bytes(msgspec.json.encode(claim))
    check_claim(ours, (), tmp_path)


COMMAND = """
import sys, time
from pathlib import Path
from odc.operator.host_claims import one_command
from odc.operator.settings import Settings
command, state, folder, log = sys.argv[1:]
for _ in range(40):
    with one_command(command, Settings(cloud="noted", state=state), lambda text: None, Path(folder)):
        with open(log, "a", buffering=1) as file:
            file.write("begin\\n")
            time.sleep(0.001)
            file.write("end\\n")
"""


def test_commands_of_one_cloud_never_overlap_and_leave_no_lock(tmp_path: Path) -> None:
    folder, log = tmp_path / "clouds", tmp_path / "log"
    words = [str(tmp_path / "state"), str(folder), str(log)]
    starts = [subprocess.Popen([sys.executable, "-c", COMMAND, command, *words]) for command in ("up", "up", "down")]
    assert [start.wait(60) for start in starts] == [0, 0, 0]
    assert log.read_text() == "begin\nend\n" * 120
    assert list(folder.iterdir()) == []


def test_a_lock_that_a_killed_command_has_left_goes_and_one_that_is_held_stays(tmp_path: Path) -> None:
    settings = Settings(cloud="noted", state=str(tmp_path / "state"), socket=str(tmp_path / "s"))
    folder = tmp_path / "clouds"
    folder.mkdir()
    (folder / "0123456789abcdef.command").touch()
    with one_command("up", settings, print, folder), claimed(settings, (), folder):
        [lock] = folder.glob("*.command")
        assert lock.stem != "0123456789abcdef"
    assert list(folder.glob("*.command")) == []


def test_a_deleted_or_replaced_socket_is_made_again_and_who_is_connected_goes_on(tmp_path: Path) -> None:
    with small_cloud(tmp_path) as cloud:
        connected = Client(str(cloud.socket))
        assert connected.me().user
        assert not cloud.server.restore()
        cloud.socket.unlink()
        assert cloud.server.restore()
        for client in (connected, Client(str(cloud.socket))):
            assert client.me().user
            client.close()
        assert cloud.socket.stat().st_mode & 0o777 == 0o666
        assert not cloud.server.restore()
    assert not cloud.socket.exists()


def test_the_socket_s_whole_folder_may_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with small_cloud(folder) as cloud:
        cloud.socket.unlink()
        folder.rmdir()
        assert cloud.server.restore()
        client = Client(str(cloud.socket))
        assert client.me().user
        client.close()
