"""A cloud without containers, and a user of it. A file whose tests need another one defines its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person
from tests.small_cloud import SmallCloud, small_cloud
from tests.someone import someone


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
