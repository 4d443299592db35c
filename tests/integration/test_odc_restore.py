"""Which backups `odc restore` accepts, without a daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.builders import a_user
from tests.e2e.cloud import Done
from tests.someone import SOURCE

from odc.adapters.sql.state_store import SqlStateStore
from odc.domain.records import Change

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root operates a cloud")


class OwnCloud:
    """The settings of a cloud that is down, and its records."""

    def __init__(self, folder: Path, name: str) -> None:
        self.state = folder / name
        self.state.mkdir(mode=0o700)
        self.file = folder / f"{name}.toml"
        self._records = f"sqlite:///{self.state}/odc.db"
        self.is_called(name)

    def is_called(self, name: str) -> None:
        values = {"cloud": name, "state": str(self.state), "socket": str(self.state / "odc.sock")}
        self.file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))

    def odc(self, *arguments: str | Path) -> Done:
        words = [sys.executable, "-m", "odc.entrypoints.odc", "--config", str(self.file), *map(str, arguments)]
        env = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)

    def add_user(self, name: str) -> None:
        with closing(SqlStateStore(self._records)) as store:
            store.commit(Change(users=(a_user(principal=f"unix:{len(self.users()) + 1}", name=name),)))

    def users(self) -> list[str]:
        with closing(SqlStateStore(self._records)) as store:
            return [user.name for user in store.list_users().items]


@pytest.fixture
def here(short_folder: Path) -> OwnCloud:
    cloud = OwnCloud(short_folder, "here")
    cloud.add_user("ada")
    return cloud


def test_a_backup_of_another_cloud_is_refused_unless_it_is_named(short_folder: Path, here: OwnCloud) -> None:
    there = OwnCloud(short_folder, "there")
    there.add_user("ben")
    backup = short_folder / "there.db"
    assert there.odc("backup", backup).code == 0
    before = (here.state / "odc.db").read_bytes()
    for options in ((), ("--of", "elsewhere")):
        refused = here.odc("restore", backup, *options)
        assert refused.code == 2
        assert f'{backup} is a backup of the cloud "there", and this is the cloud "here"' in refused.err
        assert (here.state / "odc.db").read_bytes() == before
        assert not list(here.state.glob("odc.db.*"))
    command = next(line for line in refused.err.splitlines() if "--of" in line)
    assert f"restore {backup} --of there" in command
    done = here.odc("restore", backup, "--of", "there")
    assert (done.code, here.users()) == (0, ["ben"]), done


def test_a_backup_of_the_same_cloud_is_restored_again_and_again(short_folder: Path, here: OwnCloud) -> None:
    first, second = short_folder / "first.db", short_folder / "second.db"
    assert here.odc("backup", first).code == 0
    here.add_user("ben")
    assert here.odc("restore", first).code == 0
    assert here.users() == ["ada"]
    assert here.odc("backup", second).code == 0
    kept = next(path for path in here.state.glob("odc.db.*") if not path.name.endswith(("-wal", "-shm")))
    assert here.odc("restore", kept).code == 0
    assert here.users() == ["ada", "ben"]
    assert here.odc("restore", second).code == 0
    assert here.users() == ["ada"]


def test_a_backup_from_before_a_rename_is_refused_with_the_command_that_accepts_it(
    short_folder: Path, here: OwnCloud
) -> None:
    backup = short_folder / "old.db"
    assert here.odc("backup", backup).code == 0
    here.is_called("lab")
    refused = here.odc("restore", backup)
    assert 'of the cloud "here", and this is the cloud "lab"' in refused.err
    assert here.odc("restore", backup, "--of", "here").code == 0
