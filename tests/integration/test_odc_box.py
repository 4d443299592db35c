"""`odc-box` in every shell that this machine has: setting up a box, and its small commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.box_root import HERE, Root

from odc.adapters.engine.image import box_files

PROGRAMS = ("odc-box", "nvidia-smi-simulated", "provision.sh", "apt-get")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", HERE, ids=lambda shell: shell[0])
def test_every_shell_reads_the_programs(shell: list[str], program: str) -> None:
    done = subprocess.run([*shell, "-n", str(box_files() / program)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("marker", [None, "d-2\n", "", "d-1 \n"])
def test_a_box_without_its_own_disk_does_not_start(root: Root, marker: str | None) -> None:
    (root.home / ".odc-disk").unlink()
    if marker is not None:
        root.put("home/dev/.odc-disk", marker)
    before = root.look()
    done = root.run("run")
    assert done.returncode == 78
    assert "expected d-1" in done.stderr
    assert root.look() == before


@pytest.mark.parametrize("folder", ["", "lost+found", ".odc-disk.new"])
def test_a_box_marks_a_disk_that_none_has_used(root: Root, folder: str) -> None:
    empty(root)
    (root.home / folder).mkdir(exist_ok=True)
    root.run("run", ODC_MARKER="new")
    assert (root.home / ".odc-disk").read_text() == "d-1\n"
    assert not (root.home / ".odc-disk.new").exists()


def test_a_used_disk_that_is_empty_is_never_used_again(root: Root) -> None:
    empty(root)
    done = root.run("run", ODC_MARKER="lost")
    assert (done.returncode, list(root.home.iterdir())) == (78, [])
    assert "no marker, expected d-1" in done.stderr


@pytest.mark.parametrize("marker", ["nothing", "an empty file", "a link", "a folder"])
def test_a_marker_that_a_user_has_removed_is_written_again(root: Root, marker: str, tmp_path: Path) -> None:
    place = root.home / ".odc-disk"
    place.unlink()
    root.put("home/dev/notes", "mine\n")
    (tmp_path / "victim").write_text("")
    if marker == "an empty file":
        place.touch()
    elif marker == "a link":
        place.symlink_to(tmp_path / "victim")
    elif marker == "a folder":
        (place / "inner").mkdir(parents=True)
    root.run("run", ODC_MARKER="lost")
    assert (place.read_text(), place.is_symlink()) == ("d-1\n", False)
    assert (root.home / "notes").read_text() == "mine\n"
    assert (tmp_path / "victim").read_text() == ""
    assert marker != "a folder" or len(list(root.home.glob(".odc-disk.*/inner"))) == 1


@pytest.mark.parametrize("word", ["new", "lost"])
def test_a_box_never_marks_another_disk(root: Root, word: str) -> None:
    root.put("home/dev/.odc-disk", "d-2\n")
    assert root.run("run", ODC_MARKER=word).returncode == 78
    assert (root.home / ".odc-disk").read_text() == "d-2\n"


def empty(root: Root) -> None:
    shutil.rmtree(root.home)
    root.home.mkdir()


def test_a_new_home_gets_the_shell_files(root: Root) -> None:
    assert root.run("setup").returncode == 0
    assert (root.home / ".zshrc").read_text() == 'ZSH_THEME="robbyrussell"\nplugins=(git)\n'
    assert os.access(root.home / ".venv/bin/pip", os.X_OK)


def test_a_temporary_home_is_its_owners_alone(root: Root) -> None:
    root.put("run/odc/disk_id", "")
    root.home.chmod(0o777)
    assert root.run("setup").returncode == 0
    assert root.home.stat().st_mode & 0o777 == 0o755


def test_setting_up_fifty_times_leaves_the_same_files(root: Root) -> None:
    root.put("run/odc/ca.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    root.put("etc/ssl/certs/ca-certificates.crt", "the system's\n")
    assert root.run("setup").returncode == 0
    first = root.look()
    for _ in range(49):
        assert root.run("setup").returncode == 0
    assert root.look() == first


def test_users_files_are_never_overwritten(root: Root) -> None:
    root.put("home/dev/.zshrc", "mine\n")
    (root.home / ".venv").symlink_to("/elsewhere")
    assert root.run("setup").returncode == 0
    assert (root.home / ".zshrc").read_text() == "mine\n"
    assert (root.home / ".venv").readlink() == Path("/elsewhere")


def test_only_the_loader_of_the_first_version_that_nobody_edited_is_renewed(root: Root) -> None:
    first = (Path(__file__).parent / "recorded/oh-my-zsh-0.1.0.sh").read_text()
    root.put("usr/share/odc/skel/.oh-my-zsh/oh-my-zsh.sh", "newer\n")
    loader = root.put("home/dev/.oh-my-zsh/oh-my-zsh.sh", first + "# mine\n")
    assert root.run("setup").returncode == 0
    assert loader.read_text() == first + "# mine\n"
    loader.write_text(first)
    assert root.run("setup").returncode == 0
    assert loader.read_text() == "newer\n"


def test_a_shell_file_that_its_user_removed_stays_removed(root: Root) -> None:
    root.run("setup")
    (root.home / ".zshrc").unlink()
    root.run("setup")
    assert not (root.home / ".zshrc").exists()


def test_an_interrupted_set_up_is_finished_by_the_next(root: Root) -> None:
    root.put("home/dev/.odc-new/.venv/half", "")
    assert root.run("setup").returncode == 0
    assert not (root.home / ".odc-new").exists()
    assert sorted(path.name for path in (root.home / ".venv").iterdir()) == ["bin"]


def test_a_step_that_fails_does_not_hold_up_the_others(root: Root) -> None:
    shutil.rmtree(root.home)
    root.put("home/dev", "not a folder\n")
    done = root.run("setup")
    assert done.returncode == 1
    assert "could not set up: home" in done.stderr
    assert (root.path / "etc/profile.d/odc.sh").exists()


def test_an_image_without_the_developer_gets_one(root: Root) -> None:
    root.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n")
    (root.path / "etc/sudoers.d").mkdir()
    assert root.run("setup").returncode == 0
    assert "\ndev:x:1000:1000::/home/dev:/bin/sh\n" in (root.path / "etc/passwd").read_text()
    assert (root.path / "etc/shadow").read_text().startswith("dev:*:")
    assert (root.path / "etc/shadow").stat().st_mode & 0o077 == 0
    assert (root.path / "etc/sudoers.d/odc").stat().st_mode & 0o777 == 0o440


def test_the_box_knows_its_own_name_once(root: Root) -> None:
    root.run("setup")
    assert (root.path / "etc/hosts").read_text().count("train") == 1
    root.put("run/odc/name", "trai.\n")
    root.run("setup")
    assert (root.path / "etc/hosts").read_text().endswith("127.0.1.1 trai.\n")


def test_an_operators_certificate_joins_the_systems_once(root: Root) -> None:
    root.put("etc/ssl/certs/ca-certificates.crt", "the system's\n")
    root.put("run/odc/ca.crt", "ours\n")
    root.run("setup")
    root.run("setup")
    assert (root.path / "etc/ssl/certs/ca-certificates.crt").read_text() == "the system's\nours\n"


def test_a_warning_is_a_file_in_the_home(root: Root) -> None:
    assert root.run("warn", "15").returncode == 0
    assert (root.home / "WARN_EXPIRES_IN_15MIN.txt").read_text() == "train ends in 15 minutes\n"


@pytest.mark.parametrize("minutes", ["", "-1", "x", "5; touch y"])
def test_a_warning_needs_minutes(root: Root, minutes: str) -> None:
    assert root.run("warn", minutes).returncode == 2
    assert list(root.home.glob("WARN*")) == []


def test_only_warnings_that_are_true_stay(root: Root) -> None:
    root.put("run/odc/expires_at", f"{int(time.time()) + 10 * 60}\n")
    for minutes in (5, 15):
        root.run("warn", str(minutes))
    root.run("setup")
    assert [path.name for path in root.home.glob("WARN*")] == ["WARN_EXPIRES_IN_15MIN.txt"]


def test_contents_tells_every_file_apart(root: Root) -> None:
    root.put("home/dev/a b/two\nlines", "12345")
    (root.home / "link").symlink_to("a b")
    entries = sorted(entry.split(" ", 3) for entry in root.run("contents").stdout.split("\0")[:-1])
    assert [(kind, path) for kind, _, _, path in entries] == [("d", "a b"), ("f", "a b/two\nlines"), ("l", "link")]
    assert entries[1][1] == "5"


def test_keys_counts_the_keys_that_open_the_box(root: Root) -> None:
    root.put("run/odc/authorized_keys", "# octocat\nssh-ed25519 AAAA\n\nssh-rsa BBBB\n")
    assert root.run("keys").stdout == "2 keys\n"
    root.put("run/odc-box/authorized_keys", "ssh-ed25519 AAAA\n")
    root.put("home/dev/.ssh/authorized_keys", "ssh-rsa CCCC\n")
    assert root.run("keys").stdout == "1 keys, and 1 in ~/.ssh/authorized_keys\n"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A public key."""
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def test_apply_copies_a_whole_list_of_keys_and_no_other(root: Root, key: str) -> None:
    copy = root.put("run/odc-box/authorized_keys", "ssh-ed25519 before\n")
    for broken in ("", "\n", f"# {key}", "not a key\n", key + key[:-20], "ssh-ed25519 " + "A" * 60 + "\n"):
        root.put("run/odc/authorized_keys", broken)
        assert "stays in effect" in root.run("apply").stderr
        assert copy.read_text() == "ssh-ed25519 before\n"
    (root.path / "run/odc/authorized_keys").unlink()
    assert root.run("apply").returncode == 0
    assert copy.read_text() == "ssh-ed25519 before\n"
    root.put("run/odc/authorized_keys", "# octocat\n" + key)
    done = root.run("apply")
    assert (done.returncode, done.stderr) == (0, "")
    assert copy.read_text() == "# octocat\n" + key
    assert [path.name for path in copy.parent.glob("authorized_keys*")] == ["authorized_keys"]


def test_apply_writes_the_configuration_of_sshd_again(root: Root, key: str) -> None:
    root.put("run/odc/authorized_keys", key)
    root.put("run/odc-box/sshd_config", "Port 22\n")
    root.put("run/odc/env", "LAB=one\n")
    assert root.run("apply").returncode == 0
    config = (root.path / "run/odc-box/sshd_config").read_text()
    assert '"LAB=one"' in config
    assert f"AuthorizedKeysFile {root.path}/run/odc-box/authorized_keys .ssh/authorized_keys\n" in config


@pytest.mark.parametrize("command", [(), ("explode",), ("serve",), ("stop",)])
def test_what_odc_box_does_not_know_it_refuses(root: Root, command: tuple[str, ...]) -> None:
    assert root.run(*command).returncode == 2
