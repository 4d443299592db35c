"""What several files need: a cloud without containers and its user, boxes on an engine, disks on real storage.

A file whose tests need another one defines its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.box_root import HERE, Root
from tests.builders import an_id
from tests.e2e.cloud import Person
from tests.engine import Engine, private_engine
from tests.small_cloud import SmallCloud, small_cloud
from tests.someone import someone
from tests.storage import MIB, LocalStorage, btrfs_mount, btrfs_storage, folders_storage, made

from odc.domain.box import BoxSpec


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCloud]:
    with small_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path: those of sockets are limited, and pytest's own folders have long names."""
    with tempfile.TemporaryDirectory(prefix="odc-test-") as folder:
        yield Path(folder)


@pytest.fixture
def open_cloud() -> Iterator[SmallCloud]:
    """A cloud whose socket every user of the machine can reach: pytest's own folders are closed."""
    with tempfile.TemporaryDirectory(prefix="odc-open-") as folder:
        Path(folder).chmod(0o755)
        with small_cloud(Path(folder)) as made:
            yield made


@pytest.fixture
def ada(cloud: SmallCloud, tmp_path: Path) -> Iterator[Person]:
    """A user with a key set, and nothing reserved afterwards."""
    person = someone(cloud, tmp_path)
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    yield person
    person.ok("cancel", "--all", "--yes")


@pytest.fixture(params=HERE, ids=lambda shell: shell[0])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """A root as ODC's image has it, with a new disk."""
    root = Root(tmp_path, request.param)
    root.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/home/dev:/usr/bin/zsh\n")
    root.put("etc/hosts", "127.0.0.1\tlocalhost\n10.0.0.2\ttrain odc-1\n")
    root.put("etc/zsh/zshenv", "# the image's\n")
    root.put("usr/share/odc/skel/.zshrc", 'ZSH_THEME="robbyrussell"\nplugins=(git)\n')
    root.put("usr/share/odc/skel/.venv/bin/pip", "#!/bin/sh\n").chmod(0o755)
    root.put("home/dev/.odc-disk", "d-1\n")
    for name, value in {
        "disk_id": "d-1",
        "name": "train",
        "gpus": "2 x h100",
        "disk": "proj",
        "expires_at": "",
    }.items():
        root.put(f"run/odc/{name}", value + "\n")
    return root


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine("h100=1x8") as made:
        yield made


@pytest.fixture(scope="module")
def boxes(engine: Engine) -> tuple[BoxSpec, BoxSpec]:
    specs = engine.spec(gpus=()), engine.spec(gpus=())
    for spec in specs:
        engine.up(spec)
    return specs


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs_mount(tmp_path_factory.mktemp("odc-disks") / "disks") as folder:
        yield folder


@pytest.fixture(params=["folders", "btrfs"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalStorage]:
    if request.param == "folders":
        with folders_storage(tmp_path / "disks") as found:
            yield found
    else:
        with btrfs_storage(request.getfixturevalue("btrfs") / an_id()) as found:
            yield found


@pytest.fixture
def disk(storage: LocalStorage) -> str:
    disk_id = an_id()
    made(storage.volumes, disk_id, 64 * MIB)
    return disk_id
