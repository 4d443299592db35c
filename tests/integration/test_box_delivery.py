"""How files reach a box, and which keys open it: real sshd, with files as the daemon and as a Kubernetes Secret bring
them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.engine import Engine
from tests.waiting import eventually

from odc.domain.box import BoxSpec

pytestmark = pytest.mark.podman

IN_EFFECT_S = 3.0
"""From the delivery of changed keys until they are in effect."""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another person's private key; the public one is next to it."""
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def public(key: Path) -> str:
    return key.with_suffix(".pub").read_text()


def opens(engine: Engine, spec: BoxSpec, key: Path, port: int | None = None) -> bool:
    """Whether the key opens the box."""
    command = engine.ssh_command(spec, "true", port)
    command[command.index(str(engine.keys.private))] = str(key)
    done = subprocess.run(
        [*command[:1], "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode in (0, 255), done
    assert done.returncode == 0 or "Permission denied" in done.stderr, done
    return done.returncode == 0


@pytest.fixture
def spec(engine: Engine) -> Iterator[BoxSpec]:
    """A running box of the engine's own."""
    spec = engine.spec()
    engine.up(spec)
    yield spec
    engine.forget_everything()


def log_of(engine: Engine, spec: BoxSpec) -> str:
    """What the box's first process has printed."""
    command = ["podman", "logs", engine.container(spec)]
    return subprocess.run(command, env=engine.service.environment, capture_output=True, text=True).stderr


def deliver(engine: Engine, spec: BoxSpec, keys: str) -> None:
    engine.cluster.write_files(spec.name, {"authorized_keys": keys.encode()})


def test_changed_keys_are_in_effect_within_three_seconds(engine: Engine, spec: BoxSpec, other: Path) -> None:
    mine = engine.keys.public + "\n"
    assert not opens(engine, spec, other)
    deliver(engine, spec, mine + public(other))
    eventually("the added key opens it", lambda: opens(engine, spec, other), IN_EFFECT_S)
    deliver(engine, spec, mine)
    eventually("the removed key does not open it", lambda: not opens(engine, spec, other), IN_EFFECT_S)
    assert opens(engine, spec, engine.keys.private)


@pytest.mark.parametrize(
    "broken", ["", "\n", "# none\n", "not a key\n", "cut", "ssh-ed25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"]
)
def test_a_broken_list_of_keys_locks_nobody_out(engine: Engine, spec: BoxSpec, broken: str, other: Path) -> None:
    cut = public(other) + engine.keys.public[:-30]
    deliver(engine, spec, cut if broken == "cut" else broken)
    eventually("the log says so", lambda: "not a whole list of keys" in log_of(engine, spec))
    assert opens(engine, spec, engine.keys.private)
    assert not opens(engine, spec, other)
    deliver(engine, spec, public(other))
    eventually("a whole list is in effect", lambda: opens(engine, spec, other), IN_EFFECT_S)
    assert not opens(engine, spec, engine.keys.private)


def test_files_that_are_not_delivered_any_more_lock_nobody_out(engine: Engine, spec: BoxSpec) -> None:
    folder = engine.state / "boxes" / str(spec.name)
    for path in folder.iterdir():
        path.unlink()
    time.sleep(IN_EFFECT_S)  # that nothing happens has no sign to wait for
    assert opens(engine, spec, engine.keys.private)


def test_sshd_s_files_are_in_memory_with_modes_that_it_accepts(engine: Engine, spec: BoxSpec) -> None:
    home = "/run/odc-box"
    assert engine.ssh(spec, f"findmnt -no FSTYPE {home} || grep ' {home} ' /proc/mounts").stdout.split()[0] == "tmpfs"
    modes = engine.ssh(spec, f"stat -c '%n %a %U' {home} {home}/authorized_keys {home}/ssh_host_ed25519_key").stdout
    assert modes == (f"{home} 755 root\n{home}/authorized_keys 644 root\n{home}/ssh_host_ed25519_key 600 root\n")


def test_a_ticker_that_was_killed_is_started_again(engine: Engine, spec: BoxSpec, other: Path) -> None:
    # The children of the first process that are odc-box themselves.
    killed = engine.ssh(spec, "sudo pkill -KILL -P 1 odc-box; echo $?")
    assert killed.stdout == "0\n", killed
    deliver(engine, spec, engine.keys.public + "\n" + public(other))
    eventually("the added key opens it", lambda: opens(engine, spec, other), 2 * IN_EFFECT_S)


def test_the_user_s_own_keys_open_the_box_next_to_those_of_odc(engine: Engine, spec: BoxSpec, other: Path) -> None:
    made = engine.ssh(spec, f"mkdir -m 700 .ssh && echo '{public(other).strip()}' > .ssh/authorized_keys")
    assert made.returncode == 0, made
    assert opens(engine, spec, other)
    assert opens(engine, spec, engine.keys.private)
    assert engine.ssh(spec, "odc-box keys").stdout == "1 keys, and 1 in ~/.ssh/authorized_keys\n"


@pytest.mark.parametrize(
    "spoil",
    [
        "mkfifo .ssh/authorized_keys",
        "mkdir .ssh/authorized_keys",
        "ln -s authorized_keys .ssh/authorized_keys",
        "ln -s /dev/zero .ssh/authorized_keys",
        "echo x > .ssh/authorized_keys; chmod 666 .ssh/authorized_keys",
        "echo x > .ssh/authorized_keys; chmod 000 .ssh/authorized_keys",
        "sudo sh -c 'echo x > .ssh/authorized_keys; chown 4321:4321 .ssh .ssh/authorized_keys'",
        "head -c 20000000 /dev/urandom > .ssh/authorized_keys",
        "truncate -s 1T .ssh/authorized_keys",
        "chmod 777 . .ssh",
        "rmdir .ssh; echo x > .ssh",
    ],
)
def test_a_damaged_file_of_the_user_s_keeps_no_key_of_odc_s_out(engine: Engine, spec: BoxSpec, spoil: str) -> None:
    engine.ssh(spec, f"mkdir -m 700 .ssh; {spoil}")
    assert opens(engine, spec, engine.keys.private)


@dataclass
class Secret:
    """A folder as the kubelet mounts a Secret: world-writable, links to links to files that everybody may read.

    Source: Kubernetes, `pkg/volume/util/atomic_writer.go`.
    """

    folder: Path
    written: int = 0

    def write(self, files: dict[str, bytes]) -> None:
        """Deliver these files, all at once."""
        self.written += 1
        stamped = self.folder / f"..2026_11_26_21_00_{self.written:02}.1"
        stamped.mkdir(mode=0o755)
        stamped.chmod(0o755)
        for name, content in files.items():
            assert "/" not in name  # no key of a Secret has one
            (stamped / name).write_bytes(content)
            (stamped / name).chmod(0o644)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        before = (self.folder / "..data").resolve() if (self.folder / "..data").is_symlink() else None
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(stamped.name)
        fresh.rename(self.folder / "..data")
        if before:
            shutil.rmtree(before)


def test_files_that_come_as_a_secret_open_the_box(engine: Engine, other: Path, tmp_path: Path) -> None:
    secret = Secret(tmp_path / "secret")
    secret.folder.mkdir()
    secret.folder.chmod(0o1777)
    secret.write(engine.files())
    spec = engine.spec()
    mounts = ["-v", f"{secret.folder}:/run/odc:ro", "-v", f"{engine.options.program}:/usr/local/bin/odc-box:ro"]
    name = f"odc-{engine.cloud}-secret"
    port = engine.options.ports[1]
    options = ["-p", f"127.0.0.1:{port}:22", "--entrypoint", "/usr/local/bin/odc-box"]
    try:
        engine.podman("run", "-d", "--name", name, "--user", "0", *mounts, *options, spec.image, "run")
        eventually("the key opens it", lambda: engine.ssh(spec, "true", port).returncode == 0)
        assert "StrictModes yes" in engine.ssh(spec, "sudo cat /run/odc-box/sshd_config", port).stdout
        secret.write(engine.files() | {"authorized_keys": (engine.keys.public + "\n" + public(other)).encode()})
        eventually("the added key opens it", lambda: opens(engine, spec, other, port), IN_EFFECT_S)
        secret.write(engine.files() | {"authorized_keys": b""})
        time.sleep(IN_EFFECT_S)  # that nothing happens has no sign to wait for
        assert opens(engine, spec, engine.keys.private, port)
        secret.write(engine.files())
        eventually("the removed key does not", lambda: not opens(engine, spec, other, port), IN_EFFECT_S)
    finally:
        engine.podman("rm", "-f", "-t", "0", name)


def test_files_as_version_0_1_0_delivered_them_open_a_box_that_starts_again(engine: Engine) -> None:
    files = engine.files()
    old = {f"host_keys/{name}": files.pop(name) for name in list(files) if name.startswith("ssh_host")}
    spec = engine.spec(files=files | old)
    engine.up(spec)
    try:
        assert opens(engine, spec, engine.keys.private)
    finally:
        engine.forget_everything()
