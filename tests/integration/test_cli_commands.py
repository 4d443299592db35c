"""What `gpu-dev` answers to what people type: real processes against a cloud without containers."""

from __future__ import annotations

import json

import pytest
from tests.e2e.cloud import Done, Person


def refused(person: Person, *arguments: str, code: int = 2) -> Done:
    """What the command says when it must be refused."""
    done = person.gpu_dev(*arguments)
    assert (done.code, done.out) == (code, ""), done
    return done


def test_nothing_typed_shows_the_help(ada: Person) -> None:
    assert ada.ok() == ada.ok("--help")
    assert ada.ok("config") == ada.ok("config", "--help")


@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        ("-t a100 -h 2", "this cloud has no 'a100'; it has cpu-x86, h100, t4", "gpu-dev avail"),
        ("-t a100 -g 1 -h 2", "this cloud has no 'a100'; it has cpu-x86, h100, t4", "gpu-dev avail"),
        ("-t h10 -h 2 --disk x", "did you mean h100?", "gpu-dev reserve -t h100 -h 2 --disk x"),
        ("-t h10 -g 1 -h 2 -n y", "did you mean h100?", "gpu-dev reserve -t h100 -g 1 -h 2 -n y"),
        ("-t t4 -h 2 -n y", "missing: -g N", "gpu-dev reserve -t t4 -g 1 -h 2 -n y"),
        ("-g 2", "missing: -t TYPE, -h HOURS", "gpu-dev reserve -t h100 -g 2 -h 2"),
        ("-t cpu-x86 --disk none", "missing: -h HOURS", "gpu-dev reserve -t cpu-x86 -h 2 --disk none"),
        ("-t h100 -g 3 -h 2 -n y --disk x", "1, 2, 4, 8", "gpu-dev reserve -t h100 -g 4 -h 2 -n y --disk x"),
        ("-t h100 -g 16 -h 2", "the largest has 8", "gpu-dev reserve -t h100 -g 8 -h 2"),
        ("-t cpu -h 2", "did you mean cpu-x86?", "gpu-dev reserve -t cpu-x86 -h 2"),
        ("-t T4 -h 2", "missing: -g N", "gpu-dev reserve -t t4 -g 1 -h 2"),
        ("-t t4 -h 2 --dsk x", "no such option '--dsk'. Did you mean --disk?", "gpu-dev reserve --help"),
        ("-t cpu-x86 -g 1 -h 2 -n y", "has no GPUs", "gpu-dev reserve -t cpu-x86 -h 2 -n y"),
        ("-t h100 -g 1 -h", "option '-h' requires an argument", "gpu-dev reserve --help"),
    ],
)
def test_a_refusal_keeps_what_was_typed_in_its_hint(ada: Person, typed: str, message: str, hint: str) -> None:
    error = json.loads(refused(ada, "reserve", "--json", *typed.split()).err)
    assert message in error["message"]
    assert error["hint"] == hint


def test_a_hint_for_a_taken_name_or_disk_keeps_what_was_typed(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "one", "--disk", "proj", "--wait")
    named = refused(ada, "reserve", "-t", "h100", "-g", "2", "-h", "0.5", "-n", "one", "--disk", "other")
    assert "gpu-dev reserve -t h100 -g 2 -h 0.5 -n one-2 --disk other" in named.err
    held = refused(ada, "reserve", "-t", "h100", "-g", "2", "-h", "0.5", "-n", "two", "--disk", "proj")
    assert "gpu-dev reserve -t h100 -g 2 -h 0.5 -n two --disk proj-2" in held.err
    assert "gpu-dev reserve -t h100 -g 2 -h 0.5 -n two --disk none" in held.err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "No reservations now. Ended ones: gpu-dev list --all\nNext: gpu-dev reserve"),
        ("--user all", "Nobody has a reservation. Ended ones: gpu-dev list --user all --all"),
        ("--status queued", "You have no reservation that is queued. All of yours: gpu-dev list --all"),
        ("--user all --status queued,active", "Nobody has a reservation that is queued or active."),
    ],
)
def test_an_empty_list_says_what_was_looked_for(ada: Person, typed: str, told: str) -> None:
    assert told in ada.ok("list", *typed.split())


def test_a_list_of_a_user_that_nobody_knows_is_refused(ada: Person) -> None:
    named = refused(ada, "list", "--user", "nobodyx")
    assert "no user 'nobodyx' is known here" in named.err
    assert "gpu-dev list --user all --all" in named.err


def test_a_short_time_is_told_in_minutes(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.0833", "-n", "brief", "--disk", "none", "--wait")
    assert "asked for 1 x t4, 5 min, a temporary home" in ada.ok("show", "brief", "--history")


def test_an_endpoint_is_checked_when_it_is_set_and_named_when_it_fails(ada: Person) -> None:
    assert "not unix:///path" in refused(ada, "config", "set", "endpoint", "htpp:/x").err
    told = ada.gpu_dev("config", "set", "endpoint", "unix:///nowhere/odc.sock")
    assert told.code == 0
    assert "there is no ODC daemon on /nowhere/odc.sock" in told.err
    assert "As it was before: gpu-dev config set endpoint ''" in told.err
    assert f"Not in effect while GPU_DEV_ENDPOINT is set, to unix://{ada.socket}" in told.err
    by_file = ada.gpu_dev("list", GPU_DEV_ENDPOINT="")
    assert by_file.code == 1
    assert f"endpoint from {ada.home}/.gpu-dev/config.toml   gpu-dev config set endpoint ''" in by_file.err
    by_variable = ada.gpu_dev("list", GPU_DEV_ENDPOINT="unix:///else/odc.sock")
    assert "endpoint from GPU_DEV_ENDPOINT" in by_variable.err
    typed = ada.gpu_dev("--endpoint", "unix:///third/odc.sock", "list")
    assert "/third/odc.sock" in typed.err
    assert "endpoint from" not in typed.err


def test_config_show_says_what_is_still_to_do(ada: Person) -> None:
    assert ada.ok("config", "show").splitlines()[-1] == "Next: gpu-dev config ssh-include enable"
    ada.ok("config", "ssh-include", "enable")
    assert "Next:" not in ada.ok("config", "show")
    ada.ok("config", "set", "ssh_key", "")
    assert ada.ok("config", "show").splitlines()[-1] == "Next: gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub"
    for half in ("id_ed25519", "id_ed25519.pub"):
        (ada.home / ".ssh" / half).unlink()
    assert ada.ok("config", "show").splitlines()[-1] == "Next: gpu-dev config set github_user NAME"


def test_config_show_in_json_has_all_that_people_see(ada: Person) -> None:
    shown = ada.json("config", "show")
    assert shown["keys"][0]["source"] == "own"
    assert shown["endpoint"] == f"unix://{ada.socket}"
    assert shown["settings"] == f"{ada.home}/.gpu-dev/config.toml"
    assert shown["ssh_files"] == [
        {"path": f"{ada.home}/.ssh/config", "included": False, "in_effect": None},
        {"path": f"{ada.home}/.cursor/ssh_config", "included": False, "in_effect": None},
    ]


def test_a_key_that_lies_elsewhere_is_named_for_ssh(ada: Person) -> None:
    (ada.home / "keys of mine").mkdir()
    for half in ("id_ed25519", "id_ed25519.pub"):
        (ada.home / ".ssh" / half).rename(ada.home / "keys of mine" / half.replace("id_ed25519", "work"))
    ada.ok("config", "set", "ssh_key", "~/keys of mine/work.pub")
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "train", "--disk", "none", "--wait")
    file = next((ada.home / ".gpu-dev").glob("*-sshconfig"))
    assert f"identityfile {ada.home}/keys of mine/work\n" in ada.run("ssh", "-F", str(file), "-G", "train").out
    shown = ada.ok("connect", "train", "--diagnose")
    assert "This file opens the box; if it has a passphrase: ssh-add ~/'keys of mine/work'" in shown


def test_a_key_that_the_box_does_not_accept_is_not_named(ada: Person) -> None:
    ada.run("ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", ".ssh/id_rsa")
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "train", "--disk", "none", "--wait")
    text = next((ada.home / ".gpu-dev").glob("*-sshconfig")).read_text()
    assert f'IdentityFile "{ada.home}/.ssh/id_ed25519"' in text
    assert "id_rsa" not in text


def test_a_key_file_without_its_public_half_is_found(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "train", "--disk", "none", "--wait")
    fingerprint = ada.json("config", "show")["keys"][0]["fingerprint"]
    (ada.home / ".ssh/id_ed25519.pub").unlink()
    shown = ada.ok("connect", "train", "--diagnose")
    assert f"a file has        {fingerprint} (~/.ssh/id_ed25519)" in shown
    assert "This file opens the box" in shown


def test_a_command_without_its_dashes_is_refused_with_them(ada: Person) -> None:
    told = refused(ada, "connect", "train", "nvidia-smi", "a b").err
    assert "gpu-dev connect train -- nvidia-smi 'a b'" in told


def test_old_rows_are_those_of_the_cloud_that_is_asked(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "seen", "--disk", "none", "--wait")
    ada.ok("list")
    ada.ok("list", "--all")
    away = ada.gpu_dev("list", GPU_DEV_ENDPOINT="unix:///elsewhere.sock")
    assert (away.code, away.out) == (1, "")
    assert ada.gpu_dev("connect", "seen", GPU_DEV_ENDPOINT="unix:///elsewhere.sock").code == 1
    assert list((ada.home / ".gpu-dev").glob("*-sshconfig"))


def test_beside_json_stands_nothing_but_an_error_in_json(ada: Person) -> None:
    whole = ("reserve", "-t", "h100", "-g", "8", "-h", "1", "--disk", "none", "--json")
    done = ada.gpu_dev(*whole, "-n", "told", "--wait")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["state"] == "active"
    away = ada.gpu_dev(*whole, "--wait", GPU_DEV_ENDPOINT="unix:///nowhere.sock")
    assert (away.code, away.out) == (1, "")
    assert json.loads(away.err)["error"] == "ProviderUnavailable"


def test_github_without_keys_is_not_a_dead_end(ada: Person) -> None:
    told = refused(ada, "config", "set", "github_user", "octocat").err
    assert "GitHub has no user octocat" in told
    assert "gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub" in told


def test_no_name_is_told_before_ssh_knows_it(ada: Person) -> None:
    one = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "--disk", "none", "--wait")
    enable = "gpu-dev config ssh-include enable"
    told = ada.ok(*one, "-n", "one").splitlines()
    assert told[-2].endswith(" (1 h).   gpu-dev connect one")
    assert told[-1] == f"By name from ssh, VS Code and Cursor: {enable}"
    shown = ada.ok("show", "one")
    assert f"  names     {enable}\n" in shown
    assert "ssh one" not in shown


def test_a_folder_of_cursor_is_never_made(ada: Person) -> None:
    assert ".cursor" not in ada.ok("config", "ssh-include", "enable")
    assert not (ada.home / ".cursor").exists()
    (ada.home / ".cursor").mkdir()
    assert ".cursor/ssh_config: includes your reservations now" in ada.ok("config", "ssh-include", "enable")
