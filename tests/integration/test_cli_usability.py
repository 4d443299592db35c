"""What people type by habit, what their shell completes, and what scripts read: real processes and real shells."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.cloud import Person
from tests.small_cloud import SmallCloud
from tests.someone import SOURCE, someone

from odc.api.connectors import operator_command, settings_note
from odc.api.messages.reservations import BoxView, SshView
from odc.api.messages.users import Me
from odc.operator.json_page import COMMANDS

T4 = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "--disk", "none", "--wait")


@pytest.fixture
def ada(cloud: SmallCloud, tmp_path: Path) -> Iterator[Person]:
    """With two reservations, and a command `odc` beside `gpu-dev`."""
    person = someone(cloud, tmp_path)
    words = f"PYTHONPATH={shlex.quote(str(SOURCE))} exec {shlex.quote(sys.executable)} -m odc.entrypoints.odc"
    (person.bin / "odc").write_text(f'#!/bin/sh\n{words} "$@"\n')
    (person.bin / "odc").chmod(0o755)
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    for name in ("train", "tune"):
        person.ok(*T4, "-n", name)
    yield person
    person.ok("cancel", "--all", "--yes")


def test_words_that_mean_the_same_run(ada: Person) -> None:
    assert ada.ok("ls") == ada.ok("list")
    assert ada.ok("version") == ada.ok("--version")
    assert "Usage: gpu-dev connect" in ada.ok("ssh", "--help").replace("gpu-dev ssh", "gpu-dev connect")
    assert ada.run("odc", "version").out == ada.run("odc", "--version").out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ps", "gpu-dev list"),
        ("get", "gpu-dev list"),
        ("describe", "gpu-dev show NAME"),
        ("rm", "gpu-dev cancel NAME"),
        ("delete", "gpu-dev cancel NAME"),
        ("stop", "gpu-dev cancel NAME"),
        ("Delete", "gpu-dev cancel NAME"),
        ("extend", "gpu-dev reserve --like NAME"),
        ("logs", "gpu-dev show NAME --history"),
        ("login", "gpu-dev config set github_user NAME"),
        ("exec", "gpu-dev connect NAME"),
        ("create", "gpu-dev reserve"),
        ("whoami", "gpu-dev config show"),
        ("lsit", "gpu-dev list"),
        ("conect", "gpu-dev connect"),
        ("cancle", "gpu-dev cancel"),
        ("disks", "gpu-dev reserve --disk NAME"),
        ("snapshots", "gpu-dev show NAME"),
    ],
)
def test_words_of_other_tools_are_answered_with_the_command(ada: Person, typed: str, meant: str) -> None:
    done = ada.gpu_dev(typed, "train")
    assert (done.code, done.out) == (2, "")
    first, way = done.err.splitlines()[:2]
    assert first == f"error: no command {typed!r}"
    assert way.endswith(f"   {meant}")
    assert len(ada.json("list")["reservations"]) == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("list", "config show"), ("get", "config show"), ("unset", "config set SETTING ''"), ("shwo", "config show")],
)
def test_words_of_other_tools_for_settings_are_answered_with_the_command(ada: Person, typed: str, meant: str) -> None:
    assert ada.gpu_dev("help", "config", typed).err == ada.gpu_dev("config", typed).err
    done = ada.gpu_dev("config", typed, "ssh_key")
    assert (done.code, done.out) == (2, "")
    first, way = done.err.splitlines()[:2]
    assert first == f"error: no command 'config {typed}'"
    assert way.endswith(f"   gpu-dev {meant}")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("odc disk ls", "odc disk list"),
        ("odc disk rm proj", "odc disk prune --dry-run"),
        ("odc disk prnue", "odc disk prune"),
        ("odc user rm ada", "odc user forget USER"),
        ("odc user add ada", "sudo useradd -m LOGIN"),
        ("odc clock set", "odc clock accept"),
        ("odc image ls", "odc doctor"),
        ("gpu-dev disk ls", "gpu-dev reserve"),
        ("gpu-dev disk rm proj", "gpu-dev reserve --disk NAME"),
        ("gpu-dev keys add id.pub", "gpu-dev config set ssh_key FILE"),
        ("gpu-dev config ssh-include status", "gpu-dev config show"),
        ("gpu-dev config ssh-include enabel", "gpu-dev config ssh-include enable"),
    ],
)
def test_words_of_other_tools_in_groups_are_answered_with_the_command(ada: Person, typed: str, meant: str) -> None:
    done = ada.run(*typed.split())
    assert (done.code, done.out) == (2, "")
    first, way = done.err.splitlines()[:2]
    assert first.startswith("error: no command '")
    assert way.endswith(f"   {meant}")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("start", "odc up"),
        ("restart", "odc down && odc up"),
        ("status", "gpu-dev status"),
        ("docter", "odc doctor"),
        ("logs", "odc doctor"),
    ],
)
def test_words_of_other_operators_are_answered_with_the_command(ada: Person, typed: str, meant: str) -> None:
    done = ada.run("odc", typed)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[1].endswith(f"   {meant}")


def test_the_beginning_of_an_option_names_every_option_that_begins_so(ada: Person) -> None:
    assert "'--gpu'. Did you mean --gpu-type or --gpus?" in ada.gpu_dev("reserve", "--gpu", "4").err
    assert "'--stat'. Did you mean --status?" in ada.gpu_dev("list", "--stat", "active").err
    assert "'--hisotry'. Did you mean --history?" in ada.gpu_dev("show", "--hisotry").err
    assert "'--simulated'. Did you mean --simulate?" in ada.run("odc", "up", "--simulated").err


def test_a_wrong_option_of_another_command_names_no_gpu_types(ada: Person) -> None:
    assert "gpu-dev avail" in ada.gpu_dev("reserve", "-t").err
    assert "gpu-dev avail" not in ada.gpu_dev("connect", "train", "-t").err


def test_a_message_about_choices_is_one_line(ada: Person) -> None:
    for command in ("gpu-dev", "odc"):
        done = ada.run(command, "completion")
        assert "Choose from: bash, zsh, fish" in done.err.splitlines()[0]


BASH = """
source /dev/stdin <<< "$(gpu-dev completion bash)"
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_gpu_dev_completion gpu-dev
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = "gpu-dev completion fish | source; complete -C {words}"


def in_bash(person: Person, *words: str) -> set[str]:
    done = person.run("bash", "-c", BASH.format(words=shlex.join(("gpu-dev", *words))))
    assert (done.code, done.err) == (0, ""), done
    return set(done.out.split())


def in_fish(person: Person, *words: str) -> set[str]:
    done = person.run("fish", "-c", FISH.format(words=shlex.quote(" ".join(("gpu-dev", *words)))))
    assert (done.code, done.err) == (0, ""), done
    return {line.split("\t")[0] for line in done.out.splitlines()}


@pytest.mark.parametrize("completed", [in_bash, in_fish], ids=["bash", "fish"])
def test_a_shell_completes_commands_options_and_names(ada: Person, completed: Any) -> None:
    assert completed(ada, "c") == {"connect", "cancel", "config", "completion"}
    for command in ("show", "connect", "cancel", "wait"):
        assert completed(ada, command, "t") == {"train", "tune"}
    assert completed(ada, "cancel", "train", "t") == {"tune"}
    assert completed(ada, "reserve", "--like", "tr") == {"train"}
    assert "--history" in completed(ada, "show", "--h")
    identifier = ada.view("train")["id"][:8]
    assert identifier in completed(ada, "show", identifier[:2])


def test_zsh_takes_the_script_and_completes_names(ada: Person) -> None:
    script = ada.ok("completion", "zsh")
    assert script.startswith("#compdef gpu-dev")
    ask = 'autoload -Uz compinit; compinit -u -D; eval "$(gpu-dev completion zsh)"; echo ${_comps[gpu-dev]}'
    assert ada.run("zsh", "-fc", ask).out == "_gpu_dev_completion\n"
    asked = ada.run("gpu-dev", COMP_WORDS="gpu-dev show tr", COMP_CWORD="2", _GPU_DEV_COMPLETE="zsh_complete")
    assert "train" in asked.out.split()


def test_names_are_completed_while_the_cloud_does_not_answer(ada: Person, cloud: SmallCloud) -> None:
    aside = cloud.socket.with_name("aside.sock")
    cloud.socket.rename(aside)
    try:
        assert in_bash(ada, "connect", "t") == {"train", "tune"}
    finally:
        aside.rename(cloud.socket)


def test_names_of_another_cloud_are_not_offered(ada: Person, cloud: SmallCloud) -> None:
    for address, expected in ((cloud.endpoint, ["train", "tune"]), ("unix:///run/no-such-cloud.sock", [])):
        asked: dict[str, Any] = {"COMP_WORDS": f"gpu-dev --endpoint {address} show t", "COMP_CWORD": "4"}
        done = ada.run("gpu-dev", GPU_DEV_ENDPOINT="unix:///run/x.sock", _GPU_DEV_COMPLETE="bash_complete", **asked)
        assert [line.split(",")[1] for line in done.out.split()] == expected


def test_settings_that_cannot_be_read_leave_tab_silent(ada: Person) -> None:
    path = ada.home / ".gpu-dev" / "config.toml"
    before = path.read_text()
    path.write_text("no settings at all")
    try:
        asked: dict[str, Any] = {
            "COMP_WORDS": "gpu-dev show t",
            "COMP_CWORD": "2",
            "_GPU_DEV_COMPLETE": "bash_complete",
        }
        done = ada.run("gpu-dev", GPU_DEV_ENDPOINT="", **asked)
        assert (done.code, done.out.strip(), done.err) == (0, "", "")
    finally:
        path.write_text(before)


def test_the_operators_commands_are_completed(ada: Person) -> None:
    shell = 'source /dev/stdin <<< "$(odc completion bash)"; COMP_WORDS=(odc do); COMP_CWORD=1; '
    done = ada.run("bash", "-c", shell + '_odc_completion odc; printf "%s\\n" "${COMPREPLY[@]}"')
    assert set(done.out.split()) == {"down", "doctor"}


def fields(kind: type[msgspec.Struct]) -> set[str]:
    return set(kind.__struct_fields__)


def test_what_commands_print_as_json_is_what_the_page_says(ada: Person) -> None:
    typed = {
        "gpu-dev list --json": ("list",),
        "gpu-dev show NAME --json": ("show", "train"),
        "gpu-dev show NAME --history --json": ("show", "train", "--history"),
        "gpu-dev reserve … --json": (*T4, "-n", "more"),
        "gpu-dev wait NAME --json": ("wait", "more"),
        "gpu-dev cancel NAME --json": ("cancel", "more"),
        "gpu-dev avail --json": ("avail",),
        "gpu-dev status --json": ("status",),
        "gpu-dev config show --json": ("config", "show"),
    }
    assert {*typed, "odc user list --json"} == set(COMMANDS)
    for command, words in typed.items():
        answer = ada.json(*words)
        more = {"endpoint", "settings", "ssh_files", "answers", "context"} if COMMANDS[command] is Me else set()
        assert set(answer) == fields(COMMANDS[command]) | more, command
        whole = msgspec.json.encode({key: answer[key] for key in fields(COMMANDS[command])})
        msgspec.json.decode(whole, type=COMMANDS[command])
    [box] = ada.view("train")["boxes"]
    assert (set(box), set(box["ssh"])) == (fields(BoxView), fields(SshView))
    assert isinstance(ada.json("cancel", "train", "tune"), list)
    assert set(ada.json("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")) == {"key", "value", "message"}
    refused = json.loads(ada.gpu_dev("show", "nope", "--json").err)
    assert set(refused) == {"error", "message", "when", "hint", "hints"}


def test_commands_that_are_shown_name_the_cloud_that_was_typed(ada: Person, cloud: SmallCloud) -> None:
    ada.ok("cancel", "--all", "--yes")
    typed = ("--endpoint", cloud.endpoint)
    elsewhere: dict[str, Any] = {"GPU_DEV_ENDPOINT": "unix:///run/no-such-cloud.sock"}
    shown = ada.run("gpu-dev", *typed, "avail", **elsewhere)
    assert shown.out.splitlines()[-1] == f"Next: gpu-dev --endpoint {cloud.endpoint} reserve"
    refused = ada.run("gpu-dev", *typed, "reserve", "-t", "t4", **elsewhere)
    [pasted] = re.findall(r"for example +(gpu-dev .*)", refused.err)
    done = ada.run("bash", "-c", f"{pasted} --no-wait", **elsewhere)
    assert done.code == 0, done
    hint = json.loads(ada.run("gpu-dev", *typed, "reserve", "-t", "t4", "--json", **elsewhere).err)["hint"]
    assert hint.startswith(f"gpu-dev --endpoint {cloud.endpoint} reserve ")


def test_the_command_that_starts_a_second_cloud_names_its_settings(ada: Person, tmp_path: Path) -> None:
    gone = tmp_path / "gone.sock"

    def told() -> str:
        return ada.run("gpu-dev", "list", GPU_DEV_ENDPOINT=f"unix://{gone}").err

    file = tmp_path / "my second.toml"
    file.touch()
    settings_note(str(gone)).write_text(f"{file}\n")
    settings_note(str(gone)).chmod(0o644)
    if os.getuid() == 0:
        assert f"   sudo odc --config '{file}' up\n" in told()
        assert f"   odc --config '{file}' doctor\n" in told()
    file.unlink()
    assert operator_command(str(gone)) == "odc"
    for unsafe in ("relative.toml", "/a\n/b", "/a\x1b[31m", ""):
        settings_note(str(gone)).write_text(unsafe)
        assert operator_command(str(gone)) == "odc"
    settings_note(str(gone)).write_text("/a")
    settings_note(str(gone)).chmod(0o666)
    assert operator_command(str(gone)) == "odc"


def test_a_socket_of_an_unknown_cloud_is_never_started_by_the_usual_settings(ada: Person, tmp_path: Path) -> None:
    gone = tmp_path / "gone.sock"
    told = ada.run("gpu-dev", "list", GPU_DEV_ENDPOINT=f"unix://{gone}").err
    assert told.startswith(f"error: there is no ODC daemon on {gone}\n")
    assert "   sudo odc --config FILE up\n" in told
    assert "   unset GPU_DEV_ENDPOINT\n" in told
    assert "odc up" not in told
    assert "odc doctor" not in told
    assert "   sudo odc up\n" in ada.run("gpu-dev", "list", GPU_DEV_ENDPOINT="unix:///run/odc/odc.sock").err


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_note_that_another_user_wrote_is_not_believed(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.sock")
    settings_note(gone).write_text("/evil.toml")
    os.chown(settings_note(gone), 65534, 65534)
    assert operator_command(gone) == "odc"


def test_config_show_says_what_is_known_here_while_the_cloud_is_away(ada: Person, cloud: SmallCloud) -> None:
    ada.ok("config", "ssh-include", "enable")
    aside = cloud.socket.with_name("aside.sock")
    cloud.socket.rename(aside)
    try:
        done = ada.gpu_dev("config", "show")
        as_json = ada.gpu_dev("config", "show", "--json")
    finally:
        aside.rename(cloud.socket)
    assert done.code == 1
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert ["you", "unknown: the ODC daemon does not answer"] in lines
    assert ["endpoint", f"{cloud.endpoint} (by GPU_DEV_ENDPOINT)"] in lines
    assert ["ssh_key", "~/.ssh/id_ed25519.pub, as it was set here"] in lines
    assert "config includes your reservations" in done.out
    assert "error: there is no ODC daemon on" in done.err
    view = json.loads(as_json.out)
    assert (as_json.code, view["answers"], view["user"], view["endpoint"]) == (1, False, None, cloud.endpoint)
    assert ada.json("config", "show")["answers"] is True
