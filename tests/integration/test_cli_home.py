"""HOME of somebody else, as `sudo` keeps it on some distributions, and HOME that is none: nothing is left there."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Done, Person
from tests.small_cloud import SmallCloud
from tests.someone import someone

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")

EVE = 64321
RESERVE = ("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "mine", "--disk", "none", "--wait", "--yes")


@pytest.fixture
def root(cloud: SmallCloud, tmp_path: Path) -> Iterator[Person]:
    """Root with an account whose home is a folder of the tests, in a mount namespace of its own for each command."""
    person = someone(cloud, tmp_path, "roots")
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    yield person
    person.gpu_dev("cancel", "--all", "--yes")


@pytest.fixture
def eves(tmp_path: Path) -> Path:
    """Eve's home, with links in it to what only root may write."""
    home = tmp_path / "eve"
    for name in (".ssh", ".cursor", ".gpu-dev"):
        (home / name).mkdir(parents=True)
    target = tmp_path / "of root"
    target.write_text("of root\n")
    for name in (".ssh/config", ".cursor/ssh_config", ".gpu-dev/list.json", ".gpu-dev/config.toml"):
        (home / name).symlink_to(target)
    for path in (home, *home.rglob("*")):
        os.chown(path, EVE, EVE, follow_symlinks=False)
    return home


def with_home(root: Person, home: Path | str, *arguments: str, gone: Path | None = None) -> Done:
    """Run gpu-dev as root with this HOME, while root's account has the home of the tests.

    Args:
        root: whose account, and the cloud.
        home: the value of HOME.
        arguments: of gpu-dev.
        gone: the current folder, which is deleted before; None: the root folder.
    """
    entry = pwd.getpwuid(0)
    lines = Path("/etc/passwd").read_text().splitlines()
    passwd = root.home.parent / "passwd"
    ours = [
        line if not line.startswith(f"{entry.pw_name}:") else f"root:x:0:0:root:{root.home}:/bin/sh" for line in lines
    ]
    passwd.write_text("\n".join(ours) + "\n")
    deleted = 'rmdir "$PWD" && ' if gone else ""
    script = f'mount --bind "$PASSWD" /etc/passwd && cd "$CWD" && {deleted}exec gpu-dev "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", *arguments]
    env = {
        "HOME": str(home),
        "PATH": f"{root.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
        "GPU_DEV_ENDPOINT": f"unix://{root.socket}",
        "LANG": "C.UTF-8",
        "PASSWD": str(passwd),
        "CWD": str(gone or "/"),
    }
    done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return Done(done.returncode, done.stdout, done.stderr)


def all_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every path below a folder with its owner, its time, and what is in it."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        stat = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found[str(path)] = (stat.st_uid, stat.st_mtime_ns, content)
    return found


def test_root_with_the_home_of_a_user_leaves_nothing_there_and_follows_no_link(root: Person, eves: Path) -> None:
    before, target = all_of(eves), (eves.parent / "of root").read_text()
    note = f"HOME is {eves}, of uid {EVE}; for root, {root.home} is used."
    assert note in with_home(root, eves, "list").err
    done = with_home(root, eves, *RESERVE)
    assert (done.code, note in done.err) == (0, True), done
    for command in (("show", "mine"), ("status",), ("config", "ssh-include", "enable"), ("config", "show")):
        done = with_home(root, eves, *command)
        assert done.code == 0, done
    assert with_home(root, eves, "config", "set", "endpoint", f"unix://{root.socket}").code == 0
    assert (all_of(eves), (eves.parent / "of root").read_text()) == (before, target)
    assert (root.home / ".ssh/config").read_text().startswith("Include ~/.gpu-dev/")
    assert (root.home / ".gpu-dev/list.json").exists()
    assert list((root.home / ".gpu-dev").glob("*-sshconfig"))


def test_scripts_read_nothing_but_json_with_the_home_of_a_user(root: Person, eves: Path) -> None:
    done = with_home(root, eves, "list", "--json")
    assert (done.code, done.err, done.out.startswith("{")) == (0, "", True)


def test_a_folder_that_everybody_writes_is_not_roots_home(root: Person, tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    assert f"HOME is {shared}, of everybody" in with_home(root, shared, "list").err
    assert list(shared.iterdir()) == []


def test_a_link_of_another_user_in_a_home_of_ones_own_is_not_followed(root: Person, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home2", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / ".gpu-dev").symlink_to(elsewhere)
    os.chown(home / ".gpu-dev", EVE, EVE, follow_symlinks=False)
    assert f"HOME is {home}, of uid {EVE}" in with_home(root, home, "list").err
    assert list(elsewhere.iterdir()) == []


def test_ones_own_link_and_another_folder_of_ones_own_are_used(root: Person, tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home2", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / ".gpu-dev").symlink_to(elsewhere)
    done = with_home(root, home, "list")
    assert (done.code, done.err) == (0, "")
    assert (elsewhere / "list.json").exists()


@pytest.mark.parametrize("home", [".", "here", "../x"])
def test_a_relative_home_in_a_folder_that_is_gone_is_not_a_traceback(root: Person, tmp_path: Path, home: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = with_home(root, home, "list", gone=gone)
    assert (done.code, "Traceback" in done.err) == (0, False), done
    assert f"HOME is {home}, in a folder that does not exist any more; {root.home} is used instead" in done.err
    assert (root.home / ".gpu-dev/list.json").exists()


def test_a_key_named_from_a_folder_that_is_gone_is_not_a_traceback(root: Person, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = with_home(root, root.home, "config", "set", "ssh_key", "key.pub", gone=gone)
    assert (done.code, "Traceback" in done.err) == (1, False), done
    assert "error: the current folder does not exist any more" in done.err


def test_with_an_empty_home_the_accounts_home_is_used(root: Person) -> None:
    done = with_home(root, "", "list")
    assert (done.code, done.err) == (0, "")
    assert (root.home / ".gpu-dev/list.json").exists()


def test_a_folder_that_root_left_in_a_home_is_named_with_how_to_take_it_back(cloud: SmallCloud, tmp_path: Path) -> None:
    # Below /var/tmp: the folders of pytest are closed to others.
    home = Path(
        subprocess.run(["mktemp", "-d", "/var/tmp/odc-home-XXXXXX"], capture_output=True, text=True).stdout.strip()
    )
    try:
        (home / ".gpu-dev").mkdir(mode=0o700)
        os.chown(home, EVE, EVE)
        script = (
            f"import os, sys; os.setgid({EVE}); os.setuid({EVE}); from odc.cli.home import choose_home;"
            "print(choose_home(sys.argv[1]).note)"
        )
        source = Path(__file__).parents[2] / "src"
        words = ["/usr/bin/python3", "-c", script, str(home)]
        done = subprocess.run(words, env={"PYTHONPATH": str(source)}, capture_output=True, text=True)
        assert f"{home}/.gpu-dev is a folder of root" in done.stdout, done
        assert f"sudo chown -hR 'uid {EVE}' {home}/.gpu-dev" in done.stdout
    finally:
        shutil.rmtree(home)
