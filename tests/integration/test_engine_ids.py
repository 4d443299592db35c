"""Boxes with ranges of host ids of their own: what the kernel counts by user is counted for each box alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.boxes import end_box
from tests.builders import an_id
from tests.engine import Engine, private_engine
from tests.integration.test_engine_shared import hog, taken
from tests.storage import DEV, ID_BASE, MIB, LocalStorage, attached, btrfs_mount, btrfs_storage, made

from odc.domain.box import HOME, BoxMount, BoxSpec

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
HARD_PIPES = Path("/proc/sys/fs/pipe-user-pages-hard")
PIPE_PAGES = 16


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine("h100=1x4") as made:
        yield made


def host_uids(engine: Engine, spec: BoxSpec) -> set[int]:
    """Of the processes in a box, as the host sees them."""
    shown = engine.podman("top", engine.container(spec), "huser")
    return {int(word) for word in shown.split()[1:]}


def test_the_host_ids_of_two_boxes_differ_and_their_labels_say_which(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    maps = [engine.ssh(spec, "cat /proc/self/uid_map /proc/self/gid_map").stdout.split() for spec in boxes]
    assert maps == [["0", str(spec.id_base), "65536"] * 2 for spec in boxes]
    one, two = (host_uids(engine, spec) for spec in boxes)
    assert not one & two
    for spec, uids in zip(boxes, (one, two), strict=True):
        assert all(spec.id_base <= uid < spec.id_base + 65536 for uid in uids)
    seen = {box.name: box.id_base for box in engine.cluster.list_boxes()}
    assert [seen[spec.name] for spec in boxes] == [spec.id_base for spec in boxes]


def test_boxes_of_all_ranges_use_the_same_copy_of_the_image(engine: Engine, boxes: tuple[BoxSpec, BoxSpec]) -> None:
    shown = "{{.GraphDriver.Data.LowerDir}}"
    layers = {engine.podman("inspect", "-f", shown, engine.container(spec)) for spec in boxes}
    assert len(layers) == 1
    assert engine.ssh(boxes[0], "stat -c '%u %g' / /etc/passwd /usr/bin/sudo").stdout == "0 0\n" * 3
    assert engine.ssh(boxes[0], "sudo touch /etc/passwd && sudo chown dev /opt && touch /opt/mine").returncode == 0


@pytest.mark.parametrize("python", ["python3", "sudo python3"])
def test_descriptors_in_flight_in_one_box_keep_no_terminal_from_another(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec], python: str, tmp_path: Path
) -> None:
    hostile, other = boxes
    with (
        shared_connection(engine, other, tmp_path / "shared") as through,
        taken(engine, hostile, "passed", 10**9, python) as said,
    ):
        assert said.endswith("Too many references: cannot splice")
        assert engine.ssh(other, hog("passed", 500)).stdout == "500 enough\n"
        for ways in ([], through):
            done = in_terminal(engine, other, "tty && echo works", *ways)
            assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["works"]), done
        assert in_terminal(engine, other, "echo again", *through).stdout == "again\n"


def in_terminal(engine: Engine, spec: BoxSpec, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command over ssh that asks for a terminal."""
    command = engine.ssh_command(spec, script)
    done = subprocess.run(
        [command[0], "-tt", *options, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    done.stdout = done.stdout.replace("\r\n", "\n")
    return done


@contextmanager
def shared_connection(engine: Engine, spec: BoxSpec, path: Path) -> Iterator[list[str]]:
    """A connection that other sessions share; the options that make them."""
    command = engine.ssh_command(spec, "")[:-1]
    options = ["-o", f"ControlPath={path}"]
    subprocess.run([command[0], "-fNM", *options, *command[1:]], check=True, timeout=30, stderr=subprocess.DEVNULL)
    try:
        yield options
    finally:
        subprocess.run([command[0], "-O", "exit", *options, *command[1:]], check=True, timeout=30, capture_output=True)


@contextmanager
def most_pipes(most: int) -> Iterator[None]:
    """The machine's limit of memory that one user's pipes take, for a moment: the one that no cloud raises."""
    before = HARD_PIPES.read_text()
    HARD_PIPES.write_text(str(most * PIPE_PAGES))
    try:
        yield
    finally:
        HARD_PIPES.write_text(before)


@pytest.mark.parametrize("python", ["python3", "sudo python3"])
def test_pipes_of_one_box_leave_another_its_own(engine: Engine, boxes: tuple[BoxSpec, BoxSpec], python: str) -> None:
    with most_pipes(3000), taken(engine, boxes[0], "pipe", 4000, python) as said:
        # Where no cloud has raised the other limit, pipes become small before that.
        assert said.endswith(("Too many open files in system", "only small pipes"))
        assert engine.ssh(boxes[1], hog("pipe", 100, python)).stdout == "100 enough\n"


def test_a_box_that_shares_the_range_of_homes_runs_next_to_one_that_has_its_own(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    spec = engine.spec(gpus=(), id_base=0)
    engine.up(spec)
    assert {box.name: box.id_base for box in engine.cluster.list_boxes()}[spec.name] == 0
    assert engine.ssh(spec, "cat /proc/self/uid_map").stdout.split() == ["0", str(ID_BASE), "65536"]
    assert host_uids(engine, spec) <= set(range(ID_BASE, ID_BASE + 65536))
    assert engine.ssh(spec, "stat -c %U /run/odc/ssh_host_ed25519_key").stdout == "root\n"


def test_files_that_a_box_is_told_later_belong_to_it(engine: Engine, boxes: tuple[BoxSpec, BoxSpec]) -> None:
    engine.cluster.write_files(boxes[0].name, {"expires_at": b"1\n", "ssh_host_ed25519_key.pub": b"new\n"})
    shown = engine.ssh(boxes[0], "stat -c '%u %g' /run/odc/. /run/odc/expires_at /run/odc/ssh_host*").stdout
    assert set(shown.splitlines()) == {"0 0"}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStorage]:
    with btrfs_mount(tmp_path_factory.mktemp("odc-ids") / "disks") as mount, btrfs_storage(mount / "cloud") as found:
        yield found


@contextmanager
def box_with(engine: Engine, storage: LocalStorage, disk: str, holder: str, **changes: int) -> Iterator[BoxSpec]:
    """A box with this disk as its home, for a while."""
    spec = engine.spec(gpus=(), files={**engine.files(), "disk_id": f"{disk}\n".encode()}, **changes)
    home = attached(storage.volumes, disk, holder, spec.id_base)
    spec = replace(spec, mounts=(BoxMount(target=HOME, handle=home),))
    uid = engine.up(spec)
    try:
        yield spec
    finally:
        end_box(engine.cluster, spec.name, uid)
        storage.volumes.detach(disk, holder)


OWNERS = "cd ~ && find . -mindepth 1 -not -path './.?*/*' -printf '%p %u %g %m\\n' | sort"


def test_a_home_goes_from_box_to_box_with_the_same_owners(engine: Engine, storage: LocalStorage) -> None:
    disk = an_id()
    made(storage.volumes, disk, 64 * MIB)
    with box_with(engine, storage, disk, "r-1", id_base=0) as earlier:
        written = (
            "echo one > one; sudo install -o games -g mail -m 640 one two; sudo cp /bin/true root; sudo chmod u+s root"
        )
        assert engine.ssh(earlier, written).returncode == 0
        wanted = engine.ssh(earlier, OWNERS).stdout
    assert "./two games mail 640\n" in wanted
    bases = set()
    for holder in ("r-2", "r-3"):
        with box_with(engine, storage, disk, holder) as spec:
            bases.add(spec.id_base)
            assert engine.ssh(spec, OWNERS).stdout == wanted
            assert engine.ssh(spec, f"echo {holder} >> one && sudo sh -c 'echo {holder} >> two'").returncode == 0
            assert "nosuid" in engine.ssh(spec, "findmnt -no OPTIONS /home/dev").stdout
    assert len(bases) == 2
    home = storage.home(disk)
    assert (home / "one").read_text() == "one\nr-2\nr-3\n"
    assert (home / "two").read_text() == "one\nr-2\nr-3\n"
    assert (home / "one").stat().st_uid == DEV
    assert ID_BASE < (home / "two").stat().st_uid < DEV


def test_a_box_that_is_started_again_has_its_range_and_home(engine: Engine, storage: LocalStorage) -> None:
    disk = an_id()
    made(storage.volumes, disk, 64 * MIB)
    with box_with(engine, storage, disk, "r-1") as spec:
        assert engine.ssh(spec, "echo before > file; sudo touch /outside").returncode == 0
        engine.podman("kill", engine.container(spec))
        assert attached(storage.volumes, disk, "r-1", spec.id_base) == spec.mounts[0].handle
        engine.up(spec)
        shown = engine.ssh(spec, "cat file; stat -c %U file /outside; cut -c11-21 /proc/self/uid_map").stdout.split()
        assert shown == ["before", "dev", "root", str(spec.id_base)]
