"""What a box can do to the storage of the disks: fill its own disk, and nothing else."""

from __future__ import annotations

import errno
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.boxes import end_box
from tests.builders import an_id
from tests.engine import Engine, private_engine
from tests.storage import MIB, LocalStorage, attached, btrfs_mount, btrfs_storage, made

from odc.adapters.engine.seccomp_btrfs import SUBVOLUMES
from odc.domain.box import HOME, BoxMount, BoxSpec

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]

SUBVOLUME = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
home = os.open("/home/dev", os.O_RDONLY)
args = ctypes.create_string_buffer(4096)
if int(sys.argv[1], 0) & 0xff in (23, 24):  # the second version: fd, transid, flags, unused, name
    args[56:56 + 3] = b"sub"
else:
    args[8:8 + 3] = b"sub"
if int(sys.argv[1], 0) & 0xff in (1, 23):
    args[0:8] = home.to_bytes(8, "little")
number = ctypes.c_ulong(int(sys.argv[1], 0) + (int(sys.argv[2]) << 32))
call = {"x86_64": 16, "aarch64": 29}[os.uname().machine]
code = libc.syscall(ctypes.c_long(call), ctypes.c_long(home), number, args)
print(os.strerror(ctypes.get_errno()) if code else "made")
"""


@contextmanager
def a_box_with_a_disk(
    size: int, storage_size: int, folder: Path
) -> Iterator[tuple[Engine, BoxSpec, LocalStorage, str]]:
    with (
        btrfs_mount(folder / "disks", storage_size) as mount,
        btrfs_storage(mount / "cloud") as storage,
        private_engine("h100=1x1") as engine,
    ):
        disk = an_id()
        made(storage.volumes, disk, size)
        spec = engine.spec(gpus=(), files={**engine.files(), "disk_id": f"{disk}\n".encode()})
        home = attached(storage.volumes, disk, "r-1", spec.id_base)
        spec = replace(spec, mounts=(BoxMount(target=HOME, handle=home),))
        uid = engine.up(spec)
        try:
            yield engine, spec, storage, disk
        finally:
            end_box(engine.cluster, spec.name, uid)
            storage.volumes.detach(disk, "r-1")


def test_no_subvolume_can_be_made_in_a_box_not_even_by_its_root(tmp_path: Path) -> None:
    with a_box_with_a_disk(64 * MIB, 400 * MIB, tmp_path) as (engine, spec, storage, disk):
        for number in SUBVOLUMES:
            for who in ("", "sudo "):
                for high in (0, 1):
                    done = engine.ssh(spec, f"{who}python3 -c {shlex.quote(SUBVOLUME)} {number} {high}")
                    assert done.stdout.strip() in ("Operation not permitted", "Function not implemented"), done
        listed = subprocess.run(
            ["btrfs", "subvolume", "list", "-o", storage.home(disk)], capture_output=True, text=True
        )
        assert listed.stdout == ""
        assert not (storage.home(disk) / "sub").exists()


def test_a_box_still_shares_data_between_files_and_uses_terminals(tmp_path: Path) -> None:
    with a_box_with_a_disk(64 * MIB, 400 * MIB, tmp_path) as (engine, spec, _, _):
        script = (
            "head -c 5000000 /dev/urandom > a && cp --reflink=always a b && cmp a b && stty -a -F /dev/ptmx | head -1"
        )
        done = engine.ssh(spec, f"cd ~ && {script} && python3 -c 'import fcntl,termios; print(termios.TIOCGWINSZ)'")
        assert done.returncode == 0, done.stderr
        assert "speed" in done.stdout


TRICKS = {
    "a file": "f = open('f', 'wb', 0)\nwhile True: f.write(os.urandom(2**20))",
    "a file with holes": "f = open('f', 'wb', 0)\nwhile True: f.seek(2**21, 1); f.write(os.urandom(2**20))",
    "space set aside": "f = open('f', 'wb')\nwhile True: os.posix_fallocate(f.fileno(), i << 20, 2**20); i += 1",
    "a deleted file that is open": "f = open('f', 'wb', 0)\nos.unlink('f')\nwhile True: f.write(os.urandom(2**20))",
    "extended attributes": "while True: i += 1; open(f'{i}', 'w'); os.setxattr(f'{i}', 'user.x', os.urandom(3500))",
    "small files": "while True: i += 1; open(f'{i}', 'wb').write(os.urandom(1000))",
    "empty files": "while True: i += 1; open(f'{i:x>250}', 'w').close()",
    "hard links": "open('f', 'w')\nwhile i < 60000: i += 1; os.link('f', f'{i:x>250}')",
    "half overwritten shares": "import fcntl\nwhile True:\n  i += 1; open('f', 'wb', 0).write(os.urandom(2**20))\n"
    "  with open(f'{i}', 'wb') as f: fcntl.ioctl(f, 0x40049409, os.open('f', 0)); f.seek(4096); f.write(b'x' * 4096)\n"
    "  os.sync()",
}
"""Ways to take space, as Python; each goes on until it is stopped by an error."""
TRY = """
import os, sys
os.makedirs("/home/dev/tricks"); os.chdir("/home/dev/tricks"); i = 0
try:
    exec(sys.argv[1])
    print("no error")
except OSError as error:
    print(error.errno)
"""


def test_whatever_a_box_does_it_takes_no_more_than_its_disk(tmp_path: Path) -> None:
    size = 32 * MIB
    with a_box_with_a_disk(size, 400 * MIB, tmp_path) as (engine, spec, storage, disk):
        before = storage.volumes.measure().used_bytes
        for name, trick in TRICKS.items():
            done = engine.ssh(spec, f"python3 -c {shlex.quote(TRY)} {shlex.quote(trick)}; sync")
            assert done.stdout.strip() in (str(errno.EDQUOT), "no error"), (name, done.stdout, done.stderr)
            subprocess.run(["btrfs", "filesystem", "sync", str(storage.root)], check=True)
            use = storage.volumes.measure()
            # A transaction may pass the limit by its own records; btrfs keeps those of small files twice.
            assert (use.disks[disk].live_bytes or 0) <= size + 2 * MIB, name
            assert use.used_bytes - before < 5 * size, name
            emptied = engine.ssh(spec, "rm -rf ~/tricks && sync")
            assert emptied.returncode == 0, (name, emptied.stderr)


def test_df_in_a_box_shows_the_size_of_the_disk_and_not_of_the_storage(tmp_path: Path) -> None:
    with a_box_with_a_disk(64 * MIB, 400 * MIB, tmp_path) as (engine, spec, _, _):
        told = {"disk": b"proj\n", "disk_use": b"%d %d\n" % (64 * MIB, 16 * MIB)}
        engine.cluster.write_files(spec.name, told)
        lines = [line.split() for line in engine.ssh(spec, "df -h ~").stdout.splitlines()]
        assert lines[0] == ["Filesystem", "Size", "Used", "Avail", "Use%", "Mounted", "on"]
        assert lines[1:] == [["disk/proj", "64M", "16M", "48M", "25%", "/home/dev"]]
        typed = engine.ssh(spec, "df -hT . | tail -1").stdout.split()
        assert typed == ["disk/proj", "btrfs", "64M", "16M", "48M", "25%", "/home/dev"]
        assert engine.ssh(spec, "df ~ | tail -1").stdout.split()[1:4] == ["65536", "16384", "49152"]
        assert engine.ssh(spec, "df -h -- ~ | tail -1").stdout.split()[:2] == ["disk/proj", "64M"]
        whole = engine.ssh(spec, "df -h").stdout
        assert "64M" in next(line for line in whole.splitlines() if line.endswith("/home/dev"))
        assert "overlay" in whole
        # Rarer options are the real program's, with its exit codes.
        assert "Inodes" in engine.ssh(spec, "df -i ~").stdout
        assert engine.ssh(spec, "df --output=size ~").returncode == 0
        assert engine.ssh(spec, "df /nothing/there").returncode == 1
        # What is not in the disk's limit: the storage has less free than the disk.
        engine.cluster.write_files(spec.name, {"disk_use": b"%d %d\n" % (2**40, 16 * MIB)})
        available = int(engine.ssh(spec, "df -m ~ | tail -1").stdout.split()[3])
        assert available < 400
        greeting = engine.ssh(spec, "odc-box motd").stdout
        assert "disk proj, 16 MiB of 1024 GiB" in greeting
