"""`gpu-dev` where the terminal, the home or the clock's zone is odd."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.e2e.cloud import Person
from tests.e2e.terminal import CTRL_C, DOWN, ENTER, SPACE, terminal
from tests.small_cloud import SmallCloud
from tests.someone import SOURCE, someone

from odc.api.client import Client
from odc.cli.home import choose_home
from odc.domain.errors import ProviderUnavailable

ASCII: dict[str, Any] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COLOURS = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
LONG = "x" * 40


@pytest.fixture
def ada(cloud: SmallCloud, tmp_path: Path) -> Iterator[Person]:
    """With two reservations, in a home whose name must be quoted."""
    person = someone(cloud, tmp_path, "my home 100%")
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    person.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "one", "--disk", "none", "--wait")
    person.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "--disk", LONG, "--wait")
    yield person
    person.ok("cancel", "--all", "--yes")


@pytest.fixture
def readonly(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be written, not even by root."""
    folder = tmp_path / "readonly"
    folder.mkdir()
    if os.getuid():
        folder.chmod(0o500)
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=0755", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("command", [("list",), ("show", "one"), ("cancel",), ("list", "--watch")])
def test_without_colours_nothing_is_coloured_and_nothing_is_missing(ada: Person, command: tuple[str, ...]) -> None:
    with terminal(ada, "gpu-dev", *command, NO_COLOR="1") as screen:
        screen.expect("one", "1 x t4", "active")
        screen.type(CTRL_C)
        screen.ended()
    assert not COLOURS.search(screen.raw)
    with terminal(ada, "gpu-dev", *command) as screen:
        screen.expect("one", "1 x t4", "active")
        screen.type(CTRL_C)
        screen.ended()
    assert COLOURS.search(screen.raw)


def test_a_dumb_terminal_gets_plain_lines_and_no_questions(ada: Person) -> None:
    # Wide enough for the table also when a reservation ends "tomorrow 00:22".
    with terminal(ada, "gpu-dev", "list", "--watch", columns=100, TERM="dumb") as screen:
        screen.expect("one", "active")
        screen.type(CTRL_C)
        assert screen.ended() == 0
    assert "\x1b" not in screen.raw
    assert re.match(r"\d\d:\d\d:\d\d\r\nNAME ", screen.raw)
    with terminal(ada, "gpu-dev", "reserve", TERM="dumb") as screen:
        screen.expect("missing: -t TYPE, -g N, -h HOURS")
        assert screen.ended() == 2
    assert "\x1b" not in screen.raw


def test_without_utf8_everything_is_ascii_and_marks_can_be_told_apart(ada: Person) -> None:
    for command in (("list",), ("show", "one"), ("avail",), ("status",), ("help", "list")):
        with terminal(ada, "gpu-dev", *command, **ASCII) as screen:
            assert screen.ended() == 0
            assert screen.raw.isascii()
    with terminal(ada, "gpu-dev", "cancel", **ASCII) as screen:
        screen.answer("> [ ] one", DOWN + SPACE)
        screen.expect("  [ ] one", "> [x] xxx")
        screen.type(CTRL_C)
        assert screen.ended() == 130
    assert screen.raw.isascii()


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LANG": "C"}, {"LC_ALL": "", "LANG": ""}, {"LC_ALL": "en_US"}])
def test_a_locale_without_utf8_gets_ascii_from_every_command(ada: Person, locale: dict[str, Any]) -> None:
    whole = ("reserve", "-t", "h100", "-g", "8", "-h", "1", "--disk", "none")
    ada.ok(*whole, "-n", "first")
    commands = (("list",), ("show", "one"), ("show", "first"), ("avail",), ("status",), ("help", "reserve"), ("nope",))
    for command in commands:
        with terminal(ada, "gpu-dev", *command, **locale) as screen:
            screen.ended()
        assert screen.raw.isascii(), screen.raw
    with terminal(ada, "gpu-dev", *whole, "-n", "second", **locale) as screen:
        screen.answer("waiting in the queue", CTRL_C)
        screen.ended()
    assert screen.raw.isascii(), screen.raw
    with terminal(ada, "gpu-dev", "reserve", "-t", "t4", "-g", "1", **locale) as screen:
        screen.answer("For how many hours?", ENTER)
        screen.answer("a new disk ...", CTRL_C)
        screen.ended()
    assert screen.raw.isascii(), screen.raw
    done = ada.run("gpu-dev", "show", "größe", "--json", **locale)
    assert (done.code, done.err.isascii()) == (2, True)
    assert "größe" in json.loads(done.err)["message"]


def test_help_of_the_operator_is_ascii_without_utf8(ada: Person) -> None:
    command = [sys.executable, "-m", "odc.entrypoints.odc", "up", "--help"]
    for locale, expected in (({"LC_ALL": "C"}, b"TYPE=NODESxGPUS,...|none"), ({"LC_ALL": "C.UTF-8"}, "…".encode())):
        done = subprocess.run(
            command, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCE), **locale}, capture_output=True
        )
        assert expected in done.stdout, done


@pytest.mark.parametrize("status", ["Active", "ACTIVE,queued", " active , Queued"])
def test_a_status_may_be_typed_in_any_case(ada: Person, status: str) -> None:
    assert "one" in [view["name"] for view in ada.json("list", "--status", status)["reservations"]]
    refused = ada.gpu_dev("list", "--status", "Activ")
    assert (refused.code, "no status 'activ', did you mean active?" in refused.err) == (2, True)
    assert "no status 'running', did you mean active?" in ada.gpu_dev("list", "--status", "Running").err


def test_forty_columns_lose_no_fact(ada: Person) -> None:
    listed = ada.json("list")["reservations"]
    facts = [word for view in listed for word in (view["name"], view["id"][:8], view["state"])]
    for command in (("list",), ("show", LONG)):
        with terminal(ada, "gpu-dev", *command, columns=40) as screen:
            assert screen.ended() == 0
        assert all(len(line) <= 40 for line in screen.screen.lines)
        wanted = facts if command == ("list",) else [LONG]
        assert all(word in screen.screen.text for word in wanted)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "UTC"])
def test_times_are_those_of_the_readers_zone(ada: Person, zone: str) -> None:
    ends = datetime.fromisoformat(ada.view("one")["expires_at"])
    local = ends.astimezone(ZoneInfo(zone))
    assert f"{local:%H:%M}" in ada.ok("list", TZ=zone)
    assert ada.json("show", "one")["expires_at"].endswith("Z")


@pytest.mark.parametrize("zone", ["No/Where", ":", "UTC+25:99", "\x01", "x" * 5000])
def test_a_zone_that_does_not_exist_stops_nothing(ada: Person, zone: str) -> None:
    assert "one" in ada.ok("list", TZ=zone)


@pytest.mark.parametrize("home", ["/dev/null", "/nonexistent/home", "readonly"])
def test_a_home_that_cannot_be_written_stops_nothing_but_ssh_by_name(ada: Person, readonly: Path, home: str) -> None:
    home = str(readonly) if home == "readonly" else home
    for command in (("list",), ("show", "one"), ("status",), ("avail",), ("config", "show")):
        done = ada.gpu_dev(*command, HOME=home)
        assert (done.code, done.err.count("\n")) == (0, 1), done
        assert f"ssh does not know your boxes by name here: {home}/.gpu-dev" in done.err
    key = str(ada.home / ".ssh/id_ed25519.pub")
    assert "SHA256:" in ada.ok("config", "set", "ssh_key", key, HOME=home)
    asked = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "away", "--disk", "none", "--wait")
    assert "Ready until" in ada.ok(*asked, HOME=home)
    assert "away" in ada.ok("cancel", "away", "-y", HOME=home)
    refused = ada.gpu_dev("config", "ssh-include", "enable", HOME=home)
    assert refused.code == 2
    assert f"{home}/.ssh/config" in refused.err
    assert not Path("/nonexistent").exists()


@pytest.mark.parametrize("content", [b"endpoint = ", b"endpoint = '\xe9'"])
def test_settings_that_are_broken_stop_nothing_but_ssh_by_name(ada: Person, content: bytes) -> None:
    (ada.home / ".gpu-dev/config.toml").write_bytes(content)
    done = ada.gpu_dev("show", "one")
    assert done.code == 0
    assert "ssh dev@" in done.out
    assert "config.toml is broken" in done.err
    for setting in (("endpoint", f"unix://{ada.socket}"), ("ssh_key", "~/.ssh/id_ed25519.pub")):
        refused = ada.gpu_dev("config", "set", *setting)
        assert refused.code == 2
        assert "config.toml is broken" in refused.err


def test_settings_that_are_not_files_delay_no_command(ada: Person) -> None:
    (ada.home / ".ssh/config").symlink_to("/dev/zero")
    assert "one" in ada.ok("list", timeout=20)
    settings = ada.home / ".gpu-dev/config.toml"
    settings.unlink(missing_ok=True)
    os.mkfifo(settings)
    assert f"{settings} is not a file" in ada.gpu_dev("list", timeout=20).err


def test_a_cloud_that_is_slow_to_answer_is_waited_for_with_words(ada: Person, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        with terminal(ada, "gpu-dev", "--endpoint", f"{tmp_path}/silent.sock", "list") as screen:
            screen.expect("Waiting for the ODC daemon to answer.")
            how = "sudo odc --config FILE down && sudo odc --config FILE up"
            screen.answer(f"If this goes on, restart it (boxes go on):\n  {how}", CTRL_C)
            assert screen.ended() == 130
            assert "Traceback" not in screen.screen.text


def test_a_query_gives_up_on_a_daemon_that_accepts_connections_and_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(0)
        client = Client(str(tmp_path / "silent.sock"), timeout_s=0.2)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(tmp_path / "silent.sock"))
            for _ in range(2):  # the second time the queue of connections is full
                with pytest.raises(ProviderUnavailable, match="is running but does not answer on") as refused:
                    client.me()
                assert refused.value.hints[0].label == "restart it"


def test_without_a_home_in_the_environment_the_machines_word_counts() -> None:
    assert choose_home("").folder == Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert choose_home("/some/where").folder == Path("/some/where")
    assert choose_home("here").folder == Path.cwd() / "here"


def test_two_who_set_something_at_once_lose_nothing(ada: Person) -> None:
    lines = [
        "gpu-dev config set endpoint unix:///else.sock",
        "gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub",
        "gpu-dev list",
    ]
    everything = " & ".join(f"{line} >/dev/null 2>&1" for line in lines * 4)
    ada.run("bash", "-c", f"rm ~/.gpu-dev/config.toml; {everything} & wait")
    kept = (ada.home / ".gpu-dev/config.toml").read_text()
    assert 'endpoint = "unix:///else.sock"' in kept
    assert "id_ed25519.pub" in kept
    files = sorted(path.name.partition("-")[2] for path in (ada.home / ".gpu-dev").iterdir())
    assert files == ["", "", "key.pub", "known_hosts", "known_hosts", "sshconfig", "sshconfig"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("gpu-dev list >/dev/full", 1),
        ("gpu-dev show one --json >/dev/full", 1),
        ("gpu-dev --help >/dev/full", 1),
        ("gpu-dev list | head -1; exit ${PIPESTATUS[0]}", 0),
        ("gpu-dev list | true; exit ${PIPESTATUS[0]}", 0),
        ("gpu-dev | true; exit ${PIPESTATUS[0]}", 0),
        ("gpu-dev list >&-", 1),
        ("gpu-dev list --json >&-", 1),
        ("gpu-dev --version >&-", 1),
        ("gpu-dev list <&-", 0),
        ("gpu-dev list 2>&-", 0),
        ("gpu-dev nope 2>&-", 2),
        ("gpu-dev show nope 2>/dev/full", 2),
        ("gpu-dev reserve <&-", 2),
    ],
)
def test_what_cannot_be_read_or_written_ends_with_a_word_and_a_code(ada: Person, line: str, code: int) -> None:
    done = ada.run("bash", "-c", line)
    assert done.code == code, done
    assert "Traceback" not in done.err
    assert code == 0 or "2>" in line or done.err.startswith(("error: ", '{"error"')), done


@pytest.mark.parametrize("command", ["list", "list --json", "show one --json", "status", "--help", "completion bash"])
def test_an_answer_that_cannot_be_written_names_standard_output(ada: Person, command: str) -> None:
    done = ada.run("bash", "-c", f"gpu-dev {command} >/dev/full")
    assert done.code == 1
    assert "standard output cannot be written: No space left on device" in done.err
    closed = ada.run("bash", "-c", f"gpu-dev {command} >&-", LANG="C")
    assert closed.code == 1
    assert "standard output cannot be written: Bad file descriptor" in closed.err


@pytest.mark.parametrize("option", ["--wait", "--no-wait", "--json"])
def test_a_reservation_is_named_when_the_answer_cannot_be_written(ada: Person, option: str) -> None:
    words = f"gpu-dev reserve -t t4 -g 1 -h 1 -n full --disk none {option} >/dev/full"
    done = ada.run("bash", "-c", words)
    view = ada.view("full")
    assert done.code == 1
    message = f"reserved full ({view['id'][:8]}), but standard output cannot be written: No space left on device"
    assert all(text in done.err for text in (message, "gpu-dev show full", "gpu-dev cancel full")), done.err
    done = ada.run("bash", "-c", "gpu-dev cancel full >/dev/full")
    assert done.code == 1
    assert f"cancelled full ({view['id'][:8]}), but standard output cannot be written" in done.err
    assert ada.view("full")["state"] in {"ending", "cancelled"}
    ada.until("full", "cancelled")


def test_a_setting_is_named_when_the_answer_cannot_be_written(ada: Person) -> None:
    done = ada.run("bash", "-c", "gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub >/dev/full")
    assert done.code == 1
    assert "set ssh_key, but standard output cannot be written: No space left on device" in done.err
    assert "gpu-dev config show" in done.err
