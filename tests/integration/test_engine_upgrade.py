"""The engine's program is replaced under a running service, as a package manager does it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.engine import private_engine

pytestmark = pytest.mark.podman


def install(program: Path) -> None:
    """Put the program there as package managers do: a new file under the old name."""
    fresh = program.with_suffix(".new")
    shutil.copy(shutil.which("podman", path="/usr/local/bin:/usr/bin:/bin") or "podman", fresh)
    fresh.replace(program)


def test_an_upgraded_engine_is_used_from_the_next_start_and_boxes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "podman"
    install(program)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with private_engine("h100=1x2") as engine:
        spec = engine.spec()
        uid = engine.up(spec)
        before = int((engine.state / "engine" / "podman.pid").read_text())
        assert os.readlink(f"/proc/{before}/exe") == str(program)  # noqa: PTH115
        assert not engine.service.is_outdated()
        install(program)
        assert engine.service.is_outdated()
        assert [box.uid for box in engine.cluster.list_boxes()] == [uid]
        engine.service.ensure()
        assert engine.service.is_outdated()
        engine.service.ensure(renew=True)
        after = int((engine.state / "engine" / "podman.pid").read_text())
        assert after != before
        assert not engine.service.is_outdated()
        assert engine.ssh(spec, "echo in").stdout == "in\n"
        assert [box.uid for box in engine.cluster.list_boxes()] == [uid]
