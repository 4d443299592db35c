"""What a box promises, seen in boxes on the machine's real Podman by real OpenSSH."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.boxes import end_box
from tests.engine import Engine
from tests.images import tiny_image
from tests.waiting import eventually

from odc.domain.box import BoxSpec, BoxState
from odc.domain.errors import ProviderRefused
from odc.domain.resources import BoxResources, Capacity, share_of

pytestmark = pytest.mark.podman

WITHIN_S = 60
TOOLS = ["git", "vim", "nano", "htop", "curl", "rsync", "gcc", "make", "cmake", "ccache", "python", "pip"]
SFTP = "echo pwd | sftp -q -b - -D /usr/lib/openssh/sftp-server"
BUILD = "echo 'int main() { return 42; }' > /tmp/a.c && ccache gcc /tmp/a.c -o /tmp/a && (/tmp/a; [ $? = 42 ])"


@pytest.fixture(scope="module")
def box(engine: Engine) -> BoxSpec:
    """A box that tests only look at."""
    spec = engine.spec()
    engine.up(spec)
    return spec


def test_fifty_logins_at_the_same_moment_all_succeed(engine: Engine, box: BoxSpec) -> None:
    logins = [
        subprocess.Popen(engine.ssh_command(box, f"echo {number}"), stdout=subprocess.PIPE, text=True)
        for number in range(50)
    ]
    assert [login.communicate(timeout=60)[0] for login in logins] == [f"{number}\n" for number in range(50)]


def test_a_box_sees_no_btrfs_file_system_of_the_host(engine: Engine, box: BoxSpec) -> None:
    folder = Path("/sys/fs/btrfs")
    if not folder.is_dir():
        pytest.skip("the kernel of this machine has no btrfs")
    assert any(folder.iterdir())
    assert engine.ssh(box, f"ls -A {folder}").stdout == ""


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no sshd", "the image has no sshd; install openssh-server in it"),
        ("other processor", "its image cannot run odc-box, which needs /bin/sh for this processor"),
        ("no shell", "its image cannot run odc-box, which needs /bin/sh for this processor"),
    ],
)
def test_an_image_that_cannot_be_a_box_is_refused_with_the_reason(engine: Engine, kind: str, says: str) -> None:
    with tiny_image(f"localhost/{engine.cloud}/{kind.replace(' ', '-')}:1", kind) as image:
        spec = engine.spec(image=image)
        uid = engine.cluster.create_box(spec).uid
        try:
            with pytest.raises(ProviderRefused, match=says):
                engine.up(spec, WITHIN_S)
        finally:
            end_box(engine.cluster, spec.name, uid)


def test_an_image_that_is_not_there_is_refused_by_its_name(engine: Engine) -> None:
    name = f"localhost/{engine.cloud}/none:1"
    with pytest.raises(ProviderRefused, match=f"{name}: image not known"):
        engine.up(engine.spec(image=name), WITHIN_S)


def test_the_promised_tools_run(engine: Engine, box: BoxSpec) -> None:
    tried = [*(f"{tool} --version" for tool in TOOLS), "tmux -V", SFTP, BUILD]
    done = engine.ssh(box, "\n".join(f"({command}) >/dev/null && echo {at}" for at, command in enumerate(tried)))
    worked = {int(word) for word in done.stdout.split()}
    assert [command for at, command in enumerate(tried) if at not in worked] == [], done.stderr


def test_the_developer_is_not_root_but_becomes_it_without_a_password(engine: Engine, box: BoxSpec) -> None:
    assert engine.ssh(box, "id -un; id -u; sudo -n id -u; echo $SHELL").stdout == "dev\n1000\n0\n/usr/bin/zsh\n"


def test_a_box_has_a_way_out_and_no_socket_of_the_host(engine: Engine, box: BoxSpec) -> None:
    assert engine.ssh(box, "ip route show default").stdout.startswith("default via ")
    found = engine.ssh(box, "sudo find / -path /proc -prune -o -type s -print")
    assert (found.stdout, found.returncode) == ("", 0)


@pytest.mark.parametrize("units", [2, 8])
def test_the_box_counts_its_own_processors_and_memory(engine: Engine, units: int) -> None:
    node = engine.nodes[0]
    resources = share_of(node.allocatable, units, node.units)
    spec = engine.spec(gpus=node.gpus[:units], units=units, resources=resources)
    uid = engine.up(spec)
    told = engine.ssh(spec, "nproc; free -b | awk '/Mem:/ {print $2}'; df -B1 --output=size /dev/shm | tail -1")
    cpus, memory, shm = map(int, told.stdout.split())
    assert cpus == min(resources.cpus, len(engine.options.cpus))
    assert memory == pytest.approx(resources.limit.memory_bytes, abs=4096)
    assert shm == pytest.approx(resources.shm_bytes, abs=4096)
    end_box(engine.cluster, spec.name, uid)


def test_what_takes_too_much_memory_dies_and_nothing_else(engine: Engine) -> None:
    small = Capacity(cpu_millis=1000, memory_bytes=256 * 2**20)
    resources = BoxResources(request=small, limit=small, shm_bytes=64 * 2**20, cpus=1)
    greedy, neighbour = engine.spec(resources=resources), engine.spec(resources=resources)
    for spec in (greedy, neighbour):
        engine.up(spec)
    processes = "pgrep -o -x -f '.*odc-box run'; pgrep -o -x sshd; pgrep -x -f 'sleep 1000'"
    asleep = engine.ssh(neighbour, "sleep 1000 >/dev/null 2>&1 & echo $!").stdout
    engine.ssh(greedy, "sleep 1000 >/dev/null 2>&1 &")
    before = {spec.name: engine.ssh(spec, processes).stdout for spec in (greedy, neighbour)}
    assert before[neighbour.name].endswith(f"\n{asleep}")
    assert [len(told.split()) for told in before.values()] == [3, 3]
    for python in ("python3", "sudo python3"):
        done = engine.ssh(greedy, f"{python} -c 'print(len(b\"x\" * 2**30))'; echo $?")
        assert done.stdout == "137\n"
    for spec in (greedy, neighbour):
        assert engine.ssh(spec, processes).stdout == before[spec.name]
    engine.podman("exec", engine.container(greedy), "pkill", "-KILL", "-o", "-x", "sshd")
    eventually("its SSH server is there again", lambda: engine.ssh(greedy, "pgrep -x -f 'sleep 1000'").returncode == 0)
    assert memory_kills(engine, greedy) == (2, "python3")
    assert memory_kills(engine, neighbour) == (0, "")


def memory_kills(engine: Engine, spec: BoxSpec) -> tuple[int, str]:
    """What a list says that the kernel killed in a box for memory, and the last command."""
    (kills,) = [box.memory_kills for box in engine.cluster.list_boxes() if box.name == spec.name]
    assert kills is not None
    return kills.count, kills.command


def test_a_box_whose_first_process_was_killed_for_memory_says_so(engine: Engine) -> None:
    small = Capacity(cpu_millis=1000, memory_bytes=128 * 2**20)
    spec = engine.spec(resources=BoxResources(request=small, limit=small, shm_bytes=104 * 2**20, cpus=1))
    uid = engine.up(spec)
    first = int(engine.podman("inspect", "--format", "{{.State.Pid}}", engine.container(spec)))
    Path(f"/proc/{first}/oom_score_adj").write_text("1000")
    # It leaves a file `oom` where it is when the box runs out of memory.
    monitor = engine.podman("inspect", "--format", "{{.State.ConmonPid}}", engine.container(spec))
    assert Path(f"/proc/{monitor}/cwd").resolve() == engine.state / "engine"
    # Most of it in files that no process has, so that the greedy one is not the largest.
    fill = "head -c 90M /dev/zero > /dev/shm/most; exec python3 -c 'print(len(b\"x\" * 2**30))'"
    engine.podman("exec", engine.container(spec), "sh", "-c", fill, check=False)

    def ended() -> list[int | None]:
        boxes = engine.cluster.list_boxes()
        return [box.exit_code for box in boxes if box.name == spec.name and box.state is BoxState.EXITED]

    assert eventually("the box has ended", ended) == [137]
    assert memory_kills(engine, spec)[0] >= 1
    engine.cluster.start_box(spec.name, uid)
    assert memory_kills(engine, spec) == (0, "")
    eventually("SSH answers", lambda: engine.answers(spec))
    assert engine.ssh(spec, "cat /proc/self/oom_score_adj").stdout == "550\n"
    again = engine.podman("inspect", "--format", "{{.State.Pid}}", engine.container(spec))
    assert int(Path(f"/proc/{again}/oom_score_adj").read_text()) < 550
    end_box(engine.cluster, spec.name, uid)
