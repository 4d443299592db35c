"""Writable layers on a real btrfs, with what others mount over them."""

from __future__ import annotations

import logging
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage import MIB, btrfs_mount, unmount_all

from odc.adapters.localdisk.backends import Btrfs
from odc.adapters.localdisk.layers import Layers
from odc.adapters.localdisk.mounts import read_mounts
from odc.domain.box import BoxName

pytestmark = pytest.mark.btrfs


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs_mount(tmp_path_factory.mktemp("odc-layers") / "disks") as folder:
        yield folder


@pytest.fixture
def engine_folder(tmp_path: Path) -> Iterator[Path]:
    """As the engine has it: the storage of layers, and the directory of one container in it."""
    layer = tmp_path / "overlay" / "container"
    (layer / "diff").mkdir(parents=True)
    (layer / "link").write_text("SHORT")
    (tmp_path / "run").mkdir()
    yield tmp_path
    unmount_all(tmp_path)


def targets(folder: Path) -> list[Path]:
    return [mount.target for mount in read_mounts() if mount.target.is_relative_to(folder)]


def test_a_mount_that_a_later_one_hides_does_not_keep_the_layer(
    storage: Path, engine_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layers = Layers(storage / "layers", Btrfs(storage), 64 * MIB)
    name = BoxName(uuid.uuid4().hex, 1, 0)
    overlay, run = engine_folder / "overlay", engine_folder / "run"
    layers.prepare(name)
    layers.mount(name, overlay / "container", run)
    (overlay / "container" / "diff" / "file").write_text("of the box")
    subprocess.run(["mount", "--bind", overlay, overlay], check=True)
    with caplog.at_level(logging.WARNING):
        layers.remove(name.reservation_id, 1)
    assert layers.attempts() == set()
    assert not (storage / "layers" / str(name)).exists()
    assert [record.__dict__["mount"] for record in caplog.records] == [str(overlay / "container")]
    assert targets(engine_folder) == [overlay, overlay / "container", overlay]
    subprocess.run(["umount", overlay], check=True)
    subprocess.run(["umount", overlay / "container"], check=True)


def a_shown_layer(storage: Path, engine_folder: Path) -> tuple[Layers, BoxName, Path]:
    """The layer of a box, with a file of its own, where the engine looks for it."""
    layers = Layers(storage / "layers", Btrfs(storage), 64 * MIB)
    name = BoxName(uuid.uuid4().hex, 1, 0)
    layer = engine_folder / "overlay" / "container"
    layers.prepare(name)
    layers.mount(name, layer, engine_folder / "run")
    (layer / "diff" / "file").write_text("of the box")
    return layers, name, layer


def test_a_mount_that_the_engine_has_hidden_is_made_again_in_the_engines(storage: Path, engine_folder: Path) -> None:
    layers, name, layer = a_shown_layer(storage, engine_folder)
    overlay, run = layer.parent, engine_folder / "run"
    # As when an engine command took its mount away right before ours was made, and another one came right after.
    for folder in (layer, overlay):
        subprocess.run(["umount", folder], check=True)
    subprocess.run(["mount", "--bind", storage / "layers" / str(name) / "layer", layer], check=True)
    subprocess.run(["mount", "--bind", overlay, overlay], check=True)
    assert not (layer / "diff" / "file").exists()
    layers.mount(name, layer, run)
    assert (layer / "diff" / "file").read_text() == "of the box"
    assert targets(engine_folder) == [run, overlay, layer]
    layers.remove(name.reservation_id, 1)
    assert targets(engine_folder) == [overlay]


def test_a_layer_under_a_late_mount_of_the_engine_is_noticed_and_shown_again(
    storage: Path, engine_folder: Path
) -> None:
    layers, name, layer = a_shown_layer(storage, engine_folder)
    overlay, run = layer.parent, engine_folder / "run"
    assert layers.is_mounted(name, layer)
    # As by an engine command that looked for its mount before ours was made.
    subprocess.run(["mount", "--bind", overlay, overlay], check=True)
    assert not layers.is_mounted(name, layer)
    layers.mount(name, layer, run)
    assert layers.is_mounted(name, layer)
    assert (layer / "diff" / "file").read_text() == "of the box"
    assert targets(engine_folder) == [overlay, run, layer]
    layers.remove(name.reservation_id, 1)


def test_mounts_of_a_removed_layer_are_gone(storage: Path, engine_folder: Path) -> None:
    layers = Layers(storage / "layers", Btrfs(storage), 64 * MIB)
    name = BoxName(uuid.uuid4().hex, 1, 0)
    layers.prepare(name)
    layers.mount(name, engine_folder / "overlay" / "container", engine_folder / "run")
    assert engine_folder / "run" in targets(engine_folder)
    layers.remove(name.reservation_id, 1)
    assert targets(engine_folder) == [engine_folder / "overlay"]
