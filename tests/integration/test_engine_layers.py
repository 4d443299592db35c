"""What boxes write outside their homes: limited, on the disk storage, and no trouble for the host or other boxes."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.boxes import end_box
from tests.engine import Engine, private_engine
from tests.storage import MIB, btrfs_mount
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.localdisk.backends import Btrfs
from odc.adapters.localdisk.layers import Layers
from odc.adapters.localdisk.mounts import detach, read_mounts
from odc.domain.box import BoxName, BoxSpec
from odc.domain.errors import ProviderUnavailable

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
LIMIT = 64 * MIB
FILL = "dd if=/dev/zero of={} bs=1M count=300 2>&1"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs_mount(tmp_path_factory.mktemp("odc-layers") / "disks", 1024 * MIB) as folder:
        yield folder


@pytest.fixture(scope="module")
def unlimited() -> Iterator[Engine]:
    with private_engine() as made:
        yield made


@pytest.fixture
def engine(unlimited: Engine, storage: Path) -> Iterator[Engine]:
    """The engine's cluster with limited layers; after each test nothing of a box is left."""
    layers = Layers(storage / "layers", Btrfs(storage), LIMIT)
    cluster = EngineCluster(unlimited.api, unlimited.nodes, unlimited.options, layers)
    yield replace(unlimited, cluster=cluster)
    for box in cluster.list_boxes():
        end_box(cluster, box.name, box.uid)
    for reservation_id, attempt in cluster.list_remains():
        cluster.clean_up(reservation_id, attempt)
    assert cluster.list_remains() == ()
    assert not layer_mounts(storage)


def layer_mounts(storage: Path) -> list[Path]:
    device = next(mount.device for mount in read_mounts() if mount.target == storage)
    return [mount.target for mount in read_mounts() if mount.device == device and mount.target != storage]


def layer_folder(engine: Engine, uid: str) -> Path:
    return Path(engine.api.get(f"/containers/{uid}/json")["GraphDriver"]["Data"]["UpperDir"]).parent


def run_folder(engine: Engine, uid: str) -> Path:
    return Path(engine.api.get(f"/containers/{uid}/json")["ConmonPidFile"]).parent


def stopped(engine: Engine, spec: BoxSpec, uid: str) -> None:
    """Kill the box and wait until the engine has cleaned up after it."""
    layer = layer_folder(engine, uid)
    engine.podman("kill", engine.container(spec))
    eventually("it has ended", lambda: engine.cluster.list_boxes()[0].state == "exited")
    eventually("it is cleaned up", lambda: layer / "merged" not in [mount.target for mount in read_mounts()])


def test_a_box_that_fills_its_root_is_stopped_by_its_own_limit(engine: Engine) -> None:
    spec = engine.spec()
    engine.up(spec)
    for path in ("/tmp/full", "/var/tmp/full", "/full"):
        said = engine.ssh(spec, f"sudo {FILL.format(path)}").stdout
        assert "quota exceeded" in said or "No space" in said
    sizes = engine.ssh(spec, "sudo stat -c %s /tmp/full /var/tmp/full /full 2>/dev/null").stdout
    assert sum(map(int, sizes.split())) <= LIMIT


def test_df_in_a_box_shows_the_limit_of_what_it_writes_outside_its_home(engine: Engine) -> None:
    spec = engine.spec()
    engine.up(spec)
    for place in ("/", "/tmp", "/var/lib", "~"):
        told = engine.ssh(spec, f"df -h {place} | tail -1").stdout.split()
        assert told == ["overlay", "64M", "0", "64M", "0%", "/"], place
    engine.ssh(spec, "head -c 32M /dev/urandom > /tmp/half; sync")

    def used_mib() -> int:
        engine.cluster.check_host(engine.cluster.list_boxes())
        return int(engine.ssh(spec, "df -m /tmp | tail -1").stdout.split()[2])

    eventually("df shows what is used", lambda: 32 <= used_mib() <= 36)
    size, used, left = map(int, engine.ssh(spec, "df -m | grep ' /$'").stdout.split()[1:4])
    assert size == 64
    assert 64 <= used + left <= 65  # each is rounded up


def test_a_full_root_keeps_nobody_out_and_can_be_emptied(engine: Engine) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.ssh(spec, f"sudo {FILL.format('/tmp/full')}; sudo cp /etc/services /tmp/full2")
    assert engine.ssh(spec, "echo here").stdout == "here\n"
    stopped(engine, spec, uid)
    engine.start(spec, uid)
    eventually("SSH answers again", lambda: engine.answers(spec))
    engine.ssh(spec, "sudo rm -f /tmp/full /tmp/full2")
    eventually("there is room again", lambda: engine.ssh(spec, "head -c 1M /dev/zero > /tmp/new").returncode == 0)


def test_one_box_that_is_full_leaves_others_their_room(engine: Engine) -> None:
    greedy, other = engine.spec(), engine.spec()
    engine.up(greedy)
    engine.up(other)
    engine.ssh(greedy, f"sudo {FILL.format('/tmp/full')}")
    done = engine.ssh(other, "head -c 30M /dev/zero > /tmp/mine && stat -c %s /tmp/mine")
    assert done.stdout == f"{30 * MIB}\n", done.stderr


def test_nothing_that_a_box_writes_lies_on_the_host_s_file_system(engine: Engine, storage: Path) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    assert {layer_folder(engine, uid), run_folder(engine, uid)} <= set(layer_mounts(storage))
    host = Path("/var/lib/containers").stat().st_dev
    lines = engine.ssh(spec, "cat /proc/self/mountinfo").stdout.splitlines()
    mounts = [
        (words[4], words[5]) for words in map(str.split, lines) if words[2] == f"{os.major(host)}:{os.minor(host)}"
    ]
    assert mounts, "nothing was read"
    assert [path for path, options in mounts if not options.startswith("ro")] == []


@pytest.mark.parametrize("path", ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv"])
def test_the_engine_s_own_files_in_a_box_are_limited_too(engine: Engine, path: str) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.ssh(spec, f"sudo {FILL.format(path)}")
    assert int(engine.ssh(spec, f"stat -c %s {path}").stdout) <= 17 * MIB
    stopped(engine, spec, uid)
    engine.start(spec, uid)
    eventually("SSH answers again", lambda: engine.answers(spec))
    assert int(engine.ssh(spec, f"stat -c %s {path}").stdout) < 4096


def test_an_image_s_volume_is_a_part_of_the_limited_layer(engine: Engine) -> None:
    image = f"localhost/{engine.cloud}-volume"
    made = f"FROM {engine.spec().image}\nVOLUME /data\n"
    build = ["podman", "build", "-q", "-t", image, "-"]
    subprocess.run(build, input=made, text=True, env=engine.service.environment, check=True, capture_output=True)
    try:
        spec = engine.spec(image=image)
        engine.up(spec)
        assert "quota exceeded" in engine.ssh(spec, f"sudo mkdir -p /data; sudo {FILL.format('/data/full')}").stdout
        for box in engine.cluster.list_boxes():
            end_box(engine.cluster, box.name, box.uid)
    finally:
        engine.podman("rmi", "-f", image)


def test_what_a_box_wrote_is_there_after_a_restart_and_a_reboot(engine: Engine, storage: Path) -> None:
    spec = engine.spec()
    uid = engine.up(spec)
    engine.ssh(spec, "echo kept | sudo tee /opt/kept && sync")
    stopped(engine, spec, uid)
    for target in layer_mounts(storage):
        subprocess.run(["umount", "--lazy", target], check=True)
    assert engine.cluster.create_box(spec).uid == uid
    engine.start(spec, uid)
    eventually("SSH answers again", lambda: engine.answers(spec))
    assert engine.ssh(spec, "cat /opt/kept").stdout == "kept\n"
    assert "quota exceeded" in engine.ssh(spec, f"sudo {FILL.format('/opt/full')}").stdout


def test_a_box_of_an_earlier_version_keeps_what_it_wrote(engine: Engine, unlimited: Engine) -> None:
    spec = unlimited.spec()
    uid = unlimited.up(spec)
    unlimited.ssh(spec, "echo kept | sudo tee /opt/kept && sync")
    stopped(engine, spec, uid)
    assert engine.cluster.create_box(spec).uid == uid
    engine.start(spec, uid)
    eventually("SSH answers again", lambda: engine.answers(spec))
    assert engine.ssh(spec, "cat /opt/kept").stdout == "kept\n"


def test_a_list_says_how_full_a_layer_is(engine: Engine) -> None:
    spec = engine.spec()
    engine.up(spec)
    engine.ssh(spec, f"sudo {FILL.format('/tmp/full')}; sync")

    def seen() -> bool:
        box = engine.cluster.list_boxes()[0]
        return box.layer_bytes == LIMIT and box.layer_used_bytes > LIMIT * 0.9

    eventually("the list says it", seen)


def test_a_box_that_an_operator_removes_by_hand_leaves_no_mount(engine: Engine, storage: Path) -> None:
    spec = engine.spec()
    engine.up(spec)
    engine.podman("rm", "-f", "-t", "0", engine.container(spec), check=False)
    eventually("the mounts are gone", lambda: not layer_mounts(storage))
    assert (spec.name.reservation_id, 1) in engine.cluster.list_remains()


def test_any_number_of_layers_is_measured_by_one_command(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers(storage / "layers", Btrfs(storage), LIMIT)
    names = [BoxName(uuid.uuid4().hex, 1, 0) for _ in range(5)]
    for name in names:
        layers.prepare(name)
    calls, program = tmp_path / "calls", tmp_path / "btrfs"
    program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec {shutil.which("btrfs")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    try:
        found = layers.measure()
        assert set(found) == {str(name) for name in names}
        assert {use.limit_bytes for use in found.values()} == {LIMIT}
        assert len(calls.read_text().splitlines()) == 1
    finally:
        for name in names:
            layers.remove(name.reservation_id, 1)
    assert layers.measure() == found, "at most some seconds old"


class TakenAway(Layers):
    """Layers whose first mount another engine command takes away at once."""

    taken = False

    def mount(self, name: BoxName, layer: Path, run: Path) -> None:
        super().mount(name, layer, run)
        if not self.taken:
            self.taken = True
            detach(layer)


def test_a_box_whose_layer_was_taken_away_as_it_started_runs_only_with_its_limit(engine: Engine, storage: Path) -> None:
    layers = TakenAway(storage / "layers", Btrfs(storage), LIMIT)
    cluster = EngineCluster(engine.api, engine.nodes, engine.options, layers)
    spec = engine.spec(gpus=())
    uid = cluster.create_box(spec).uid
    with pytest.raises(ProviderUnavailable, match="took away the storage"):
        cluster.start_box(spec.name, uid)
    cluster.start_box(spec.name, uid)
    assert layer_folder(engine, uid) in layer_mounts(storage)
    said = engine.podman("exec", engine.container(spec), "sh", "-c", FILL.format("/full"), check=False)
    assert "quota exceeded" in said or "No space" in said
