"""`odc doctor` with the installed command: a line for everything, ok or what to do; and nothing is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, Done, Person, processes_of
from tests.e2e.operated import left_of, stranger
from tests.waiting import eventually

from odc.adapters.engine.box_limits import may_raise
from odc.adapters.engine.tcp_ports import ephemeral_ports

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def levels(done: Done) -> dict[str, str]:
    """Subject to level, of what `--json` printed."""
    return {finding["subject"]: finding["level"] for finding in json.loads(done.out)}


def test_everything_that_a_running_cloud_needs_has_a_line(spare: Cloud, olga: Person) -> None:
    assert olga.name in spare.settings["admins"]
    found = levels(spare.odc("doctor", "--json"))
    # The tests' disk is small.
    loud = {"space": "warn", "limits": "ok" if may_raise() else "warn"}
    subjects = (
        "daemon",
        "cgroups",
        "kernel",
        "engine",
        "image",
        "ports",
        "host ids",
        "GPUs",
        "disks",
        "disk sizes",
        "records",
        "DNS",
        "HTTPS",
    )
    # Other clouds of the machine may have the same ids.
    expected = {**dict.fromkeys(subjects, "ok"), **loud}
    assert set((found | {"DNS": "ok", "host ids": "ok"}).items()) ^ set(expected.items()) == set()
    lines = spare.odc("doctor").out.splitlines()
    assert f"ok    daemon      0.1.0 answers on {spare.socket}" in lines
    assert "ok    GPUs        SIMULATED: 4 x cpu-x86, 8 x h100, 4 x t4" in lines
    for finding in json.loads(spare.odc("doctor", "--json").out):
        # What the daemon has just put right needs no action; another cloud of the machine may have caused it.
        if finding["subject"] != "daemon":
            assert (finding["level"] == "ok") == (finding["hint"] == ""), finding


def test_an_operator_who_has_no_login_is_told(spare: Cloud) -> None:
    config = stranger(spare, "nobody-there", admins=["odc-no-such-login"])
    findings = json.loads(config.odc("doctor", "--json", check=False).out)
    (text,) = [finding["text"] for finding in findings if finding["subject"] == "users"]
    assert text == "admins names odc-no-such-login, which is not a login of this machine"


def test_who_is_not_root_is_told_what_they_may_see(spare: Cloud, dora: Person) -> None:
    done = dora.run("odc", "--config", str(spare.config), "doctor", "--json")
    assert (done.code, done.err) == (0, "")
    found = levels(done)
    only_root = {finding["subject"] for finding in json.loads(done.out) if finding["text"] == "only root can look"}
    assert only_root == {"engine", "image", "disks", "limits"}
    assert {found[subject] for subject in ("daemon", "cgroups", "GPUs", "HTTPS")} == {"ok"}


def test_what_is_missing_is_named_with_what_to_type(
    spare_cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    low, high = ephemeral_ports()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        sick = stranger(spare_cloud, "sick", image="localhost/odc/none:1", github=address, ports=[low, low + 99])
        done = sick.odc("doctor", check=False)
        assert levels(sick.odc("doctor", "--json", check=False))["image"] == "fail"
    assert done.code == 1
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    image = lines.index("fail image localhost/odc/none:1 is not built")
    assert re.match(r"run: sudo odc --config \S+ image build", lines[image + 1])
    https = lines.index(f"warn HTTPS {address} cannot be reached: Connection refused")
    gpu_dev = f"gpu-dev --endpoint unix://{spare_cloud.folder}/sick.sock"
    assert lines[https + 1] == f"users set their own keys: {gpu_dev} config set ssh_key FILE"
    ports = f"warn ports {low} to {low + 99} on 127.0.0.1: outgoing connections use {low} to {high} too"
    assert lines[lines.index(ports) + 1] == "choose others: ports = [FIRST, LAST] in the settings"
    assert f"warn daemon there is no ODC daemon on {spare_cloud.folder}/sick.sock" in lines
    assert not (spare_cloud.folder / "sick").exists()
    assert (list(tmp_path.iterdir()), processes_of([tmp_path])) == ([], [])


def test_a_cloud_that_is_down_stays_down(spare: Cloud) -> None:
    spare.odc("down", "--all", "--yes")
    assert levels(spare.odc("doctor", "--json"))["engine"] == "ok"
    assert left_of(spare) == []


def test_an_engine_that_died_is_not_started_for_a_cloud_that_is_down(spare: Cloud) -> None:
    spare.odc("down")
    pid = spare.engine_pid()
    os.kill(pid, signal.SIGKILL)
    eventually("the engine is gone", lambda: spare.engine_pid() == 0)
    assert levels(spare.odc("doctor", "--json"))["engine"] == "ok"
    assert spare.engine_pid() == 0
