"""What people do in a box from their first day (terminals, locales, packages, memory), and what operators change."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.dns_server import own_address, serve_dns
from tests.e2e.cloud import Cloud, Person
from tests.e2e.terminal import ENTER, terminal
from tests.e2e.test_box import changed_settings, end, reserve
from tests.waiting import eventually

from odc.adapters.engine.memory_kills import counter_file

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

TERMINALS = (
    "xterm-kitty",
    "xterm-ghostty",
    "wezterm",
    "foot",
    "alacritty",
    "tmux-256color",
    "screen-256color",
    "not-yet-made",
)
LOCALES = ("en_US.UTF-8", "en_DE.UTF-8", "de_DE.utf8", "UTF-8", "xx_YY.UTF-8")
COMPLAIN = "perl -e 1; bash -c :; python3 -c 'import locale; locale.setlocale(locale.LC_ALL, str())'"
REPOSITORY = """
mkdir -p repo/made/DEBIAN repo/made/usr/bin && cd repo
printf 'Package: odc-hello\\nVersion: 1\\nArchitecture: all\\n' > made/DEBIAN/control
printf 'Maintainer: t <t@t>\\nDescription: t\\n' >> made/DEBIAN/control
printf '#!/bin/sh\\necho hello from a package\\n' > made/usr/bin/odc-hello && chmod 755 made/usr/bin/odc-hello
dpkg-deb --root-owner-group -b made odc-hello.deb >/dev/null && dpkg-scanpackages -m . > Packages 2>/dev/null
"""
ONLY_THIS = """
sudo rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] copy:/home/dev/repo ./' | sudo tee /etc/apt/sources.list >/dev/null
"""


def ssh_words(person: Person, name: str, *options: str) -> list[str]:
    """The words of a real ssh to the box, with options of the user's own."""
    return [
        "ssh",
        "-F",
        str(next(person.home.glob(f".gpu-dev/{person.view(name)['id'][:8]}*-sshconfig"))),
        *options,
        name,
    ]


def test_terminals_and_locales_of_clients_work_in_every_way_in(ada: Person) -> None:
    reserve(ada, "looks")
    for term in TERMINALS:
        command = ssh_words(ada, "looks", "-tt")
        done = ada.run(*command, "tput cols >/dev/null; infocmp >/dev/null; echo term=$TERM", TERM=term)
        shown = "xterm-256color" if term == "not-yet-made" else term
        assert f"term={shown}" in done.out.split(), done
        assert "unknown" not in done.out + done.err, done
    for locale in LOCALES:
        sent = ["-o", f"SetEnv=LC_ALL={locale} LC_CTYPE=UTF-8", "-o", "SendEnv=LANG LC_*"]
        done = ada.run(*ssh_words(ada, "looks", *sent), COMPLAIN, LANG=locale)
        assert (done.code, done.out, done.err) == (0, "", ""), done
    for shell in ("zsh -c", "bash -lc", "sh -lc", "zsh -ic", "sudo -E bash -lc"):
        for locale in LOCALES:
            # What the shell itself says of its locale comes before it has read anything.
            done = ada.in_box("looks", f'LC_ALL={locale} {shell} "{COMPLAIN}" 2>&1 | grep -v "^/*.*bash: warning"')
            assert done.out == "", (shell, locale)
    (ada.home / "file").write_text("x")
    copied = ada.run("scp", *ssh_words(ada, "looks")[1:-1], str(ada.home / "file"), "looks:copied", LANG="xx_YY.UTF-8")
    assert (copied.code, copied.err) == (0, "")
    with terminal(ada, "gpu-dev", "connect", "looks") as screen:
        screen.answer(
            "➜",
            # The session stays: its server would end with it, and a client that waits then waits for ever.
            "tmux new-session -d 'echo $TERM > said; sleep 99'; until [ -s said ]; do sleep 0.1; done; cat said"
            + ENTER,
        )
        screen.expect("\ntmux-256color\n")


def test_packages_install_at_once_and_come_back_by_the_startup_script(ada: Person) -> None:
    reserve(ada, "packed", disk="packed")
    made = ada.in_box("packed", REPOSITORY)
    assert made.code == 0, made
    assert ada.in_box("packed", ONLY_THIS).code == 0
    done = ada.in_box("packed", "sudo apt-get install -y -q odc-hello && odc-hello")
    assert done.code == 0, done
    assert done.out.endswith("hello from a package\n")
    assert "Fetching the package lists first" in done.err
    script = ONLY_THIS + "sudo apt-get install -y -q odc-hello\necho $ODC_NAME $(id -un)\nexit 3\n"
    assert ada.in_box("packed", "mkdir -p .odc && cat > .odc/startup.sh", input=script).code == 0
    end(ada, "packed")
    reserve(ada, "again", disk="packed")
    eventually("the startup script has run", lambda: ada.in_box("again", "cat /run/odc-box/startup").out == "3\n")
    assert ada.in_box("again", "odc-hello").out == "hello from a package\n"
    assert ada.in_box("again", "tail -1 .odc/startup.log").out == "again dev\n"
    assert "startup.sh failed with code 3: ~/.odc/startup.log" in ada.in_box("again", "odc-box motd").out
    assert ada.in_box("again", "echo 'sleep 1000' > .odc/startup.sh").code == 0
    end(ada, "again")
    reserve(ada, "hangs", disk="packed")
    assert "startup.sh still runs" in ada.in_box("hangs", "odc-box motd").out


def test_a_profile_that_becomes_another_shell_keeps_no_startup_script_from_running(ada: Person) -> None:
    reserve(ada, "profiled", disk="profiled")
    script = "cd; pwd; echo $USER $LOGNAME $ODC_NAME ${VIRTUAL_ENV##*/}; command -v python\n"
    assert ada.in_box("profiled", "mkdir -p .odc && cat > .odc/startup.sh", input=script).code == 0
    assert ada.in_box("profiled", "echo 'exec zsh -l' > .profile").code == 0
    end(ada, "profiled")
    reserve(ada, "starts", disk="profiled")
    eventually("the startup script has run", lambda: ada.in_box("starts", "cat /run/odc-box/startup").out == "0\n")
    told = "/home/dev\ndev dev starts .venv\n/home/dev/.venv/bin/python\n"
    assert ada.in_box("starts", "cat .odc/startup.log").out == told


def test_running_boxes_get_changed_settings_and_new_ones_ask_the_labs_dns(
    ada: Person, cloud: Cloud, tmp_path: Path
) -> None:
    reserve(ada, "early")
    authority = tmp_path / "ca.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(tmp_path / "key"),
        "-subj",
        "/CN=lab",
    ]
    subprocess.run([*command, "-out", str(authority)], check=True, capture_output=True)
    address = own_address()
    dns = f'dns = ["{address}"]\ndns_search = ["lab.test"]'
    lines = f'certificates = "{authority}"\n{dns}\nenvironment = {{ LAB = "new one" }}'
    with serve_dns(address, "db.lab.test", "10.9.8.7"), changed_settings(cloud, lines):
        eventually("variables reach it", lambda: ada.in_box("early", 'echo "$LAB"').out == "new one\n")
        trusted = "openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt /run/odc/ca.crt"
        eventually("certificates reach it", lambda: ada.in_box("early", trusted).code == 0)
        config = "sudo grep -c 'LAB=new one' /run/odc-box/sshd_config"
        eventually("its sshd has them", lambda: ada.in_box("early", config).out == "1\n")
        reserve(ada, "late")
        assert ada.in_box("late", "getent hosts db").out.split()[0] == "10.9.8.7"
        assert "127.0.0" not in ada.in_box("late", "grep nameserver /etc/resolv.conf").out
        findings = {line["subject"]: line for line in json.loads(cloud.odc("doctor", "--json").out)}
        assert findings["DNS"]["level"] == "ok"
        assert findings["DNS"]["text"] == f"boxes ask {address} (the setting dns)"


def test_a_kill_for_memory_is_shown_wherever_its_user_looks(ada: Person, cloud: Cloud) -> None:
    view = reserve(ada, "greedy", disk="greedy", gpu_type="cpu-x86", gpus=0)
    assert view["out_of_memory"] is None
    (box,) = cloud.boxes()
    limit(box, 150 * 2**20)
    ada.in_box("greedy", "touch kept")
    done = ada.in_box("greedy", "exec python3 -c 'print(len(b\"x\" * 2**30))'")
    assert (done.code, done.out) == (255, "")
    assert done.err == "The command was killed in the box, or ended with 255. For lack of memory? gpu-dev show greedy\n"
    found = eventually("it is counted", lambda: ada.view("greedy")["out_of_memory"])
    assert (found["kills"], found["command"], found["stopped"]) == (1, "python3", False)
    assert "OOM 1" in ada.ok("list")
    assert "python3 (1 time); the box went on" in ada.ok("show", "greedy")
    assert "out of memory: the kernel killed python3; the box went on" in ada.ok("show", "greedy", "--history")
    greeting = "the kernel killed python3 (1 time)"
    eventually("the box says it", lambda: greeting in ada.in_box("greedy", "odc-box motd").out)
    Path(f"/proc/{box['Pid']}/oom_score_adj").write_text("1000")
    fill = "head -c 100M /dev/zero > /dev/shm/half; python3 -c 'print(len(b\"x\" * 2**30))'"
    ada.in_box("greedy", fill)
    found = eventually("the box was restarted", lambda: stopped(ada, "greedy"))
    assert found["kills"] >= 2
    assert ada.in_box("greedy", "ls kept").out == "kept\n"
    assert "the box was started again" in ada.ok("show", "greedy")
    assert f"OOM {found['kills']}" in ada.ok("list")


def stopped(person: Person, name: str) -> object:
    """What was killed, once the box that it stopped answers again."""
    view = person.view(name)
    found = view["out_of_memory"]
    running = view["state"] == "active" and view["boxes"][0]["state"] == "running"
    return found if running and found["stopped"] and person.in_box(name, "true").code == 0 else None


def limit(box: dict[str, object], memory_bytes: int) -> None:
    """Take memory away from a running box."""
    path = counter_file(int(str(box["Pid"])), str(box["Id"]))
    assert path is not None
    folder = path.parent
    names = (
        ("memory.max",) if path.name == "memory.events" else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    )
    for name in names:
        if (folder / name).exists():
            (folder / name).write_text(str(memory_bytes))
