"""The image of boxes is built apart from the host: an interrupted build leaves nothing of itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.lane import lane_name
from tests.storage import unmount_all
from tests.waiting import DEADLINE_S, eventually

from odc.adapters.engine.image import Images
from odc.domain.errors import ProviderUnavailable

pytestmark = [
    pytest.mark.podman,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed"),
]
MOUNTED_S = 120


def descendants(pid: int) -> list[int]:
    """Every process that this one started, directly or not."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found = [pid]
    for known in found:
        found += parents.get(known, [])
    return found[1:]


def mounts_of(pid: int | str) -> list[Path]:
    try:
        table = Path(f"/proc/{pid}/mountinfo").read_text()
    except OSError:
        return []
    targets = [line.split()[4] for line in table.splitlines()]
    return [Path(target) for target in targets if target.startswith("/var/tmp/odc-image-")]


def break_off(build: subprocess.Popen[bytes], folder: Path) -> None:
    """End a build whose mounts the host sees, so that nothing deletes files through them."""
    for pid in (build.pid, *descendants(build.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    build.wait()
    unmount_all(folder)
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_no_mount_no_folder_and_no_process(
    short_folder: Path, sent: signal.Signals
) -> None:
    config = short_folder / "odc.toml"
    values = {
        "cloud": lane_name("image"),
        "state": str(short_folder / "state"),
        "image": f"localhost/odc/{lane_name('cut')}:1",
    }
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    # A run of tests under nohup ignores SIGHUP, and what it starts would too.
    command = ["env", "--default-signal=HUP", sys.executable, "-m", "odc.entrypoints.odc"]
    command += ["--config", str(config), "image", "build"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:

        def mounted() -> list[Path]:
            return [mount for pid in descendants(build.pid) for mount in mounts_of(pid)]

        folder = Path(*eventually("something is mounted", mounted, MOUNTED_S)[0].parts[:4])
        started = descendants(build.pid)
        if any(mount.is_relative_to(folder) for mount in mounts_of("self")):
            break_off(build, folder)
            pytest.fail("the host sees what the build mounts")
        build.send_signal(sent)
        try:
            build.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            break_off(build, folder)
            raise
    assert build.returncode == 128 + signal.SIGTERM
    assert not folder.exists()
    eventually("every process is gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def test_an_engine_that_does_not_work_is_not_taken_for_one_without_the_image(tmp_path: Path) -> None:
    name = f"localhost/odc/{lane_name('none')}:1"
    assert Images(os.environ).version_of(name) is None
    broken = tmp_path / "storage.conf"
    broken.write_text("no setting at all")
    for sick in (
        Images(os.environ, ("--root", "/proc/no-place")),
        Images(os.environ | {"CONTAINERS_STORAGE_CONF": str(broken)}),
    ):
        with pytest.raises(ProviderUnavailable, match=r"the container engine does not work: .+"):
            sick.version_of(name)
