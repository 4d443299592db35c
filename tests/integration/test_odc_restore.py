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


KILLED = """
import os, shutil, signal, sqlite3, sys
source, fresh = sys.argv[1:]
shutil.copyfile(source, fresh)
connection = sqlite3.connect(fresh)
connection.execute("DROP TABLE backup_origin")
connection.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_restore_has_left_does_not_change_the_next_one(short_folder: Path, here: OwnCloud) -> None:
    small, large, fresh = short_folder / "small", short_folder / "large", here.state / "odc.restored"
    here.odc("backup", small)
    with closing(SqlStateStore(f"sqlite:///{here.state}/odc.db")) as store:
        store.commit(
            Change(users=tuple(a_user(principal=f"unix:{uid}", name=f"user{uid}") for uid in range(2000, 2050)))
        )
    here.odc("backup", large)
    subprocess.run([sys.executable, "-c", KILLED, large, fresh])
    assert (here.state / "odc.restored-wal").stat().st_size
    done = here.odc("restore", small)
    assert done.code == 0, done
    assert here.users() == ["ada"]
    assert list(here.state.glob("odc.restored*")) == []
