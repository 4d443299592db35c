"""Which newer options an entry overrides: those that the configuration of the user or the machine sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from odc.cli.ssh_include import BEGIN, END
from odc.cli.ssh_newer_options import override_lines

NONE_RUNS = "  SessionType default\n"


def lines(home: Path, user: str, machine: str = "") -> str:
    """What is overridden with these two configurations."""
    for path, text in ((home / ".ssh/config", user), (home / "etc/ssh_config", machine)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return override_lines(home, home / ".gpu-dev", home / "etc/ssh_config")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", ""),
        ("Host *\n  User me\n# SessionType none\n", ""),
        ("Host *\n  sessiontype=none\n", NONE_RUNS),
        ("Host tr*\n\tSessionType none\n", NONE_RUNS),
        ("KnownHostsCommand /x\nStdinNull yes\n", "  KnownHostsCommand none\n  StdinNull no\n"),
        ("Host *\nForkAfterAuthentication yes\n", "  ForkAfterAuthentication no\n"),
    ],
)
def test_an_option_is_overridden_if_the_configuration_sets_it(tmp_path: Path, user: str, expected: str) -> None:
    assert lines(tmp_path, user) == expected


def test_included_files_and_the_machines_count_and_our_own_do_not(tmp_path: Path) -> None:
    for path in (".ssh/conf.d/work", "etc/conf.d/all", ".gpu-dev/x-sshconfig"):
        (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / ".ssh/conf.d/work").write_text("SessionType none\nInclude ~/.ssh/conf.d/*\n")
    (tmp_path / "etc/conf.d/all").write_text("StdinNull yes\n")
    (tmp_path / ".gpu-dev/x-sshconfig").write_text("ForkAfterAuthentication no\n")
    user = f'Include ~/.gpu-dev/*-sshconfig\n{BEGIN}\nKnownHostsCommand none\n{END}\nInclude "conf.d/w*" conf.d/none\n'
    assert lines(tmp_path, user, "Include conf.d/*\n") == f"{NONE_RUNS}  StdinNull no\n"


def test_an_option_that_some_ssh_is_told_to_ignore_is_left_out(tmp_path: Path) -> None:
    assert lines(tmp_path, "IgnoreUnknown UseKeychain,Session*\nSessionType none\nStdinNull yes") == "  StdinNull no\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("RemoteCommand tmux\n", "  RemoteCommand none\n"),
        ("Host x\nHost *\n  RemoteCommand tmux\n", "  RemoteCommand none\n"),
        ("Host train\n  RemoteCommand tmux\n", ""),
    ],
)
def test_a_remote_command_for_one_reservation_is_what_the_user_wants(tmp_path: Path, user: str, expected: str) -> None:
    assert lines(tmp_path, user) == expected


def test_a_configuration_that_cannot_be_read_sets_nothing(tmp_path: Path) -> None:
    assert override_lines(tmp_path, tmp_path / ".gpu-dev", tmp_path) == ""
