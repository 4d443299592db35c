"""The audit log is a private file with a JSON object in each line."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from tests.builders import NOW, an_event

from odc.adapters.system.audit_log import AuditFile
from odc.domain.errors import ProviderUnavailable
from odc.domain.records import SubjectKind
from odc.entrypoints.bootstrap.checks import machine_checks
from odc.operator.settings import Settings


def test_events_are_lines_of_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditFile(path)
    log.append([an_event("r1", text="one\ntwo", when=NOW + timedelta(hours=1))])
    log.append([an_event("d1", subject_kind=SubjectKind.DISK)])
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert first == {
        "at": "2026-03-02T12:00:00Z",
        "subject": "reservation",
        "id": "r1",
        "actor": "odc",
        "kind": "placed",
        "text": "one\ntwo",
        "when": "2026-03-02T13:00:00Z",
    }
    assert (second["subject"], second["id"], second["when"]) == ("disk", "d1", None)


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditFile(path)
    log.append([an_event("r1")])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    log.append([an_event("r1"), an_event("r2")])
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0] == lines[2] == whole
    assert json.loads(lines[3])["id"] == "r2"


def test_a_log_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable, match=r"audit.jsonl cannot be written: No such file or directory"):
        AuditFile(tmp_path / "missing" / "audit.jsonl").append([an_event("r1")])


def found(path: Path) -> list[tuple[str, str]]:
    check = machine_checks(Settings(audit_log=str(path)), {}, running=False)["audit log"]
    return [(finding.level, finding.text) for finding in check()]


def test_doctor_names_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    assert found(path) == [("ok", str(path))]
    missing, stays = tmp_path / "missing", "ended reservations are not deleted"
    assert found(missing / "audit.jsonl") == [("fail", f"{missing} is not a folder: {stays}")]
    assert found(tmp_path) == [("fail", f"{tmp_path} is a folder: {stays}")]
    assert not list(machine_checks(Settings(), {}, running=False)["audit log"]())


def test_a_full_file_system_is_a_fault(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], check=True)
    try:
        log = AuditFile(folder / "audit.jsonl")
        with pytest.raises(ProviderUnavailable, match="No space left on device"):
            log.append([an_event("r1", text="x" * 100_000)])
    finally:
        subprocess.run(["umount", str(folder)], check=True)
