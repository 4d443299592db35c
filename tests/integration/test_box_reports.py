"""The report of a box: what it says, and that no file that a box plants there disturbs the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.box_root import Root
from tests.engine import Engine
from tests.waiting import eventually

from odc.adapters.engine.box_reports import MOST_BYTES, read_report
from odc.adapters.engine.image import box_files
from odc.domain.box import BoxSpec
from odc.domain.box_report import BoxPhase, BoxReport, HomeState, ServerState

UID = "f" * 64
GOOD = {"version": 1, "sshd": "running", "home": "ready"}
WRONG = (
    {"sshd": "well"},
    {"sshd": 1},
    {"home": None},
    {"keys": -1},
    {"keys": 10**30},
    {"keys": "2"},
    {"keys": 1.5},
    {"keys": True},
    {"started_at": 10**15},
    {"expires_at": -1},
    {"not_set_up": ["home\x1b[2J"]},
    {"not_set_up": ["home"] * 21},
    {"phases": [{"name": "<b>", "ms": 1}]},
    {"phases": [{"name": "setup\n", "ms": 1}]},
    {"phases": [{"name": "setup", "ms": float("nan")}]},
)
KEYS = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl odc\n"
LEASE = """
pkill -STOP -P 1 odc-box
python3 -c 'import fcntl, os, time
f = os.open("report", os.O_WRONLY)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open("leased", "w")
time.sleep(60)' >/dev/null 2>&1 &
until [ -e leased ]; do sleep 0.1; done
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of odc-box in a pretended `/proc`, as that of process 7."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(f"0::/machine/libpod-{UID}/container\n")
    own = tmp_path / "7/root/run/odc-box"
    own.mkdir(parents=True)
    return own


def read(own: Path) -> BoxReport | None:
    return read_report(7, UID, own.parents[3])


def test_a_report_is_read_with_all_its_fields(own: Path) -> None:
    written = GOOD | {
        "started_at": 1795700848,
        "not_set_up": ["home", "ping"],
        "keys": 2,
        "expires_at": 1795704448,
        "memory_kills": 3,
        "phases": [{"name": "setup", "ms": 40}],
        "later": {"jupyter": "running"},
    }
    (own / "report").write_text(json.dumps(written))
    assert read(own) == BoxReport(
        started_at=datetime.fromtimestamp(1795700848, UTC),
        sshd=ServerState.RUNNING,
        home=HomeState.READY,
        not_set_up=("home", "ping"),
        keys=2,
        expires_at=datetime.fromtimestamp(1795704448, UTC),
        memory_kills=3,
        phases=(BoxPhase("setup", 0.04),),
    )


def test_a_box_without_a_report_is_unknown(own: Path) -> None:
    assert read(own) is None
    own.rmdir()
    assert read(own) is None
    assert read_report(8, UID, own.parents[3]) is None
    assert read_report(0, UID, own.parents[3]) is None


def test_the_report_of_another_process_is_not_read(own: Path) -> None:
    (own / "report").write_text(json.dumps(GOOD))
    assert read(own) is not None
    assert read_report(7, "e" * 64, own.parents[3]) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * MOST_BYTES,
        b'{"sshd":"running","home":"ready","x":' + b"[" * (MOST_BYTES - 40),
        json.dumps(GOOD).encode().ljust(MOST_BYTES + 1),
        json.dumps({"home": "ready"}).encode(),
        *(json.dumps(GOOD | wrong).encode() for wrong in WRONG),
    ],
)
def test_content_that_is_not_a_valid_report_is_unknown(own: Path, content: bytes) -> None:
    (own / "report").write_bytes(content)
    assert read(own) is None


def test_only_a_regular_file_is_opened_and_no_link_is_followed(own: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "report").write_text(json.dumps(GOOD))
    report = own / "report"
    os.mkfifo(report)
    assert read(own) is None
    report.unlink()
    report.mkdir()
    assert read(own) is None
    report.rmdir()
    for target in (elsewhere / "report", "/dev/zero", "report"):
        report.symlink_to(target)
        assert read(own) is None
        report.unlink()
    own.rmdir()
    own.symlink_to(elsewhere)
    assert read(own) is None
    own.unlink()
    own.parent.rmdir()
    own.parent.symlink_to(tmp_path)
    (tmp_path / "odc-box").mkdir()
    (tmp_path / "odc-box/report").write_text(json.dumps(GOOD))
    assert read(own) is None


@pytest.fixture
def spec(engine: Engine) -> Iterator[BoxSpec]:
    """A running box that has reported."""
    spec = engine.spec()
    engine.up(spec)
    eventually("it has reported", lambda: report_of(engine, spec) is not None)
    yield spec
    engine.forget_everything()


def report_of(engine: Engine, spec: BoxSpec) -> BoxReport | None:
    (box,) = (box for box in engine.cluster.list_boxes() if box.name == spec.name)
    return box.report


def sshd_of(engine: Engine, spec: BoxSpec) -> ServerState | None:
    report = report_of(engine, spec)
    return report.sshd if report else None


def in_box(engine: Engine, spec: BoxSpec, command: str) -> None:
    """Run it as root of the box."""
    engine.podman("exec", "--user", "0", "--workdir", "/run/odc-box", engine.container(spec), "sh", "-c", command)


@pytest.mark.podman
def test_a_box_reports_its_start_its_end_and_its_keys(engine: Engine, spec: BoxSpec) -> None:
    end = int(time.time()) + 3600
    engine.cluster.write_files(spec.name, {"expires_at": f"{end}\n".encode()})
    ends = datetime.fromtimestamp(end, UTC)
    eventually("it knows its end", lambda: (found := report_of(engine, spec)) and found.expires_at == ends)
    report = report_of(engine, spec)
    assert report is not None
    assert report.started_at is not None
    assert abs(report.started_at.timestamp() - time.time()) < 60
    assert (report.sshd, report.home, report.not_set_up, report.keys) == (ServerState.RUNNING, HomeState.READY, (), 1)
    assert report.memory_kills in (0, None)  # None where the box cannot see its cgroup
    (setup,) = report.phases
    assert setup.name == "setup"
    assert 0 < setup.seconds < 10


@pytest.mark.podman
def test_a_server_that_does_not_run_is_reported(engine: Engine, spec: BoxSpec) -> None:
    in_box(engine, spec, "kill -STOP $(cat sshd.pid)")
    eventually("it is reported", lambda: sshd_of(engine, spec) is ServerState.STOPPED)
    in_box(engine, spec, "kill -CONT $(cat sshd.pid)")
    eventually("it runs again", lambda: sshd_of(engine, spec) is ServerState.RUNNING)
    time.sleep(5)  # a server that ends sooner counts as one that cannot run
    in_box(engine, spec, "mv /usr/sbin/sshd /usr/sbin/gone; kill $(cat sshd.pid)")
    eventually("it is reported", lambda: sshd_of(engine, spec) is ServerState.STOPPED)
    in_box(engine, spec, "mv /usr/sbin/gone /usr/sbin/sshd")
    eventually("it runs again", lambda: sshd_of(engine, spec) is ServerState.RUNNING)


@pytest.mark.podman
@pytest.mark.parametrize(
    "plant",
    [
        "ln -sf /etc/passwd report",
        "rm report; mkfifo report",
        "rm report; mkdir report",
        "truncate -s 1T report",
        "rm -rf ./*; chmod 000 .",
        LEASE,
    ],
    ids=["link", "fifo", "folder", "huge", "gone", "lease"],
)
def test_no_planted_file_delays_the_list_of_boxes(engine: Engine, spec: BoxSpec, plant: str) -> None:
    in_box(engine, spec, f"pkill -STOP -P 1 odc-box; {plant}")
    began = time.monotonic()
    assert report_of(engine, spec) is None
    assert time.monotonic() - began < 5


@pytest.fixture
def running(root: Root) -> Iterator[Root]:
    """A pretended box whose first process runs, in process ids of its own, with a server that only waits."""
    if os.geteuid() != 0:
        pytest.skip("process ids of their own need root")
    root.put("usr/sbin/sshd", "#!/bin/sh\nwhile :; do sleep 1; done\n").chmod(0o755)
    root.put("run/odc/ssh_host_ed25519_key", "secret\n")
    root.put("run/odc/authorized_keys", KEYS)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *root.shell]
    variables = {"PATH": os.environ["PATH"], "ODC_ROOT": str(root.path), "ODC_GRACE": "1"}
    process = subprocess.Popen([*command, str(box_files() / "odc-box"), "run"], env=variables)
    try:
        yield root
    finally:
        process.kill()
        process.wait(10)


def told_by(root: Root) -> dict[str, Any]:
    """The report that the box has written last; empty before the first."""
    path = root.path / "run/odc-box/report"
    return json.loads(path.read_bytes()) if path.exists() else {}


def test_every_shell_writes_a_report_that_is_understood_and_applies_changes(running: Root) -> None:
    eventually("there is a report", lambda: told_by(running))
    told = told_by(running)
    (phase,) = told.pop("phases")
    assert phase["name"] == "setup"
    assert 0 <= phase["ms"] < 10_000
    assert abs(told.pop("started_at") - time.time()) < 60
    told.pop("memory_kills")  # of the cgroup in which the tests run
    assert told == GOOD | {"keys": 1, "not_set_up": [], "expires_at": None}
    (running.path / "7").mkdir()
    (running.path / "7/cgroup").write_text(UID)
    (running.path / "7/root").symlink_to(running.path)
    assert read_report(7, UID, running.path) is not None
    running.put("run/odc/expires_at", "1795704448\n")
    eventually("it knows its end", lambda: told_by(running)["expires_at"] == 1795704448)
    running.put("run/odc/authorized_keys", KEYS + KEYS)
    eventually("two keys are in effect", lambda: told_by(running)["keys"] == 2)
    copy = running.path / "run/odc-box/ssh_host_ed25519_key"
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("secret\n", 0o600)
