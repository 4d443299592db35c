"""What the kernel's network settings are inside of a box."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine import private_engine

from odc.adapters.engine.service import SYSCTLS, inspect_machine


@pytest.mark.podman
def test_a_box_has_the_network_settings_that_its_kernel_knows_and_the_host_keeps_its_own() -> None:
    known = inspect_machine().sysctls
    files = {name: Path("/proc/sys", *name.split(".")) for name in known}
    before = {name: path.read_text() for name, path in files.items()}
    assert known == {name: SYSCTLS[name] for name in SYSCTLS if Path("/proc/sys", *name.split(".")).exists()}
    with private_engine("h100=1x1") as engine:
        spec = engine.spec()
        engine.up(spec)
        for name, value in known.items():
            assert engine.podman("exec", engine.container(spec), "cat", str(files[name])) == value
        assert engine.ssh(spec, "true").returncode == 0
    assert {name: path.read_text() for name, path in files.items()} == before
