"""The unit that starts a cloud at boot is one that systemd itself understands, whatever the paths are called.

systemd need not run here: its own checker reads the unit, and tells what it has understood.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from odc.operator.systemd import unit_text

pytestmark = pytest.mark.systemd

FACT = re.compile(r"^\t\t+([A-Z]\w+(?: \w+)*): (.*)$", re.MULTILINE)
ODD = "of the lab/100% $HOME ${HOME} %h $$"
QUOTED = """it's "so" \\ ; or so"""


@dataclass(frozen=True)
class Checked:
    """What systemd says of a unit."""

    refused: str
    facts: dict[str, str]

    def words(self) -> list[str]:
        """The command that it would run."""
        line = f"printf '%s\\0' {self.facts['Command Line']}"
        printed = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True).stdout
        return printed.split("\0")[:-1]


def check(text: str, folder: Path) -> Checked:
    """Let systemd read a unit with this text."""
    unit = folder / "odc.service"
    unit.write_text(text)
    plain, told = (
        subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            env={**os.environ, "SYSTEMD_LOG_LEVEL": level},
            capture_output=True,
            text=True,
        )
        for level in ("info", "debug")
    )
    assert plain.returncode == 0 or plain.stderr
    return Checked(plain.stderr, dict(FACT.findall(told.stdout.partition("Unit odc.service")[2])))


def a_program(folder: Path) -> Path:
    folder.mkdir(parents=True)
    program = folder / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    command = [str(a_program(tmp_path / "bin")), "-m", "odc.entrypoints.odc", "serve"]
    checked = check(unit_text(command, Path("/var/lib/odc/odc.log"), [Path("/var/lib/odc"), Path("/srv")]), tmp_path)
    assert checked.refused == ""
    assert checked.words() == command
    expected = {"KillMode": "process", "Restart": "always", "StandardOutputFileToAppend": "/var/lib/odc/odc.log"}
    assert checked.facts.items() >= expected.items()


def test_rights_over_the_whole_machine_are_taken_away_and_those_that_boxes_need_are_not(tmp_path: Path) -> None:
    text = unit_text(["/bin/true"], tmp_path / "odc.log", [tmp_path])
    kept = set(check(text, tmp_path).facts["CapabilityBoundingSet"].split())
    assert not kept & {f"cap_{name}" for name in ("sys_boot", "sys_time", "sys_rawio", "syslog", "wake_alarm")}
    assert kept >= {f"cap_{name}" for name in ("sys_admin", "net_admin", "setuid", "chown", "mknod")}


@pytest.mark.parametrize("name", [ODD, f"{ODD}/{QUOTED}"], ids=["blanks, percents and dollars", "quotes too"])
def test_every_path_reaches_systemd_as_it_is(tmp_path: Path, name: str) -> None:
    """The program itself lies where systemd takes one: it refuses quotes there."""
    folder = tmp_path / name
    command = [str(a_program(tmp_path / ODD)), str(folder / "odc.toml"), "", "%n", ";", "it's", '"', "a\\tb"]
    text = unit_text(command, folder / "odc.log", [folder])
    checked = check(text, tmp_path)
    assert checked.refused == ""
    assert checked.words() == command
    assert "ExecStart=:" in text, "systemd would put variables in"
    assert checked.facts["StandardOutputFileToAppend"] == str(folder / "odc.log")
    assert checked.facts["RequiresMountsFor"] == f"{folder} (origin-file)"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("KillMode=process", "KillMode=sometimes"),
        ("RestartSec=2", "RestartSecs=2"),
        ("ExecStart=:", "ExecStart=:/nowhere"),
        ("append:/", "append:"),
        ("RequiresMountsFor=/", "RequiresMountsFor="),
    ],
)
def test_the_check_refuses_a_broken_unit(tmp_path: Path, right: str, wrong: str) -> None:
    text = unit_text([str(a_program(tmp_path / "bin"))], tmp_path / "odc.log", [tmp_path])
    assert right in text
    assert "odc.service" in check(text.replace(right, wrong), tmp_path).refused
