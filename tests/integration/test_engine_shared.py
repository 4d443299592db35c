"""What the kernel counts for all boxes together: no box takes what the others or the host need."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine import Engine, private_engine
from tests.lane import LANE, lane_name
from tests.storage import ID_BASE
from tests.waiting import eventually

from odc.adapters.engine.box_limits import (
    CORE_PATTERN,
    SOCKET_LIMIT,
    UNLIMITED,
    locked_memory,
    may_raise,
    signals_of_all_boxes,
)
from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.engine.kernel_limits import raise_limits, restore_limits, wanted_limits
from odc.domain.box import BoxSpec
from odc.domain.problem_text import problem_texts
from odc.entrypoints.bootstrap.checks import machine_checks
from odc.operator.host_claims import claimed, forget_claim
from odc.operator.settings import Settings

pytestmark = [pytest.mark.podman, pytest.mark.alone("it uses up, changes or counts what the kernel has for all boxes")]

HOG = Path(__file__).with_name("hog.py").read_text()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine("h100=1x4") as made:
        yield made


def hog(kind: str, most: int, python: str = "python3") -> str:
    return f"{python} -c {shlex.quote(HOG)} {kind} {most}"


@contextmanager
def taken(engine: Engine, spec: BoxSpec, kind: str, most: int = 10**9, python: str = "python3") -> Iterator[str]:
    """A box takes as many as it can and keeps them meanwhile; what it said."""
    child = subprocess.Popen(
        engine.ssh_command(spec, hog(kind, most, python)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate(timeout=30)


def of_host(kind: str, most: int) -> str:
    command = [sys.executable, "-c", HOG, kind, str(most)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture
def raised(tmp_path: Path) -> Iterator[None]:
    """The host's limits are as a cloud raises them, for a moment, in which no other cloud is the last one."""
    network = f"198.18.{LANE}.0/24"
    first = 1100 + 2 * LANE
    settings = Settings(
        cloud=lane_name("limits"),
        state=str(tmp_path),
        socket=f"{tmp_path}/odc.sock",
        ports=(first, first + 1),
        network=network,
    )
    with claimed(settings):
        raise_limits(wanted_limits(4), tmp_path / "noted.json")
        try:
            yield
        finally:
            restore_limits(tmp_path / "noted.json")
            forget_claim(settings)


def test_doctor_names_a_limit_that_somebody_lowered_and_what_to_type(raised: None, tmp_path: Path) -> None:
    name, file = "net.ipv4.neigh.default.gc_thresh3", Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    settings = Settings(state=str(tmp_path), simulate="h100=1x4")
    before = file.read_text()
    file.write_text("1024")
    try:
        found = {one.subject: one for one in machine_checks(settings, {}, running=True)["cgroups"]()}["kernel"]
    finally:
        file.write_text(before)
    assert found.level == "warn"
    assert f"{name} is 1024" in found.text
    assert f"sudo sysctl -w {name}=8192" in found.hint


@pytest.mark.parametrize(("kind", "most"), [("inotify", 300), ("pipe", 1100), ("aio", 80)])
def test_one_box_takes_more_than_the_hosts_usual_limit_and_others_still_get_theirs(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec], raised: None, kind: str, most: int
) -> None:
    with taken(engine, boxes[0], kind, most) as said:
        assert said == f"{most} enough"
        assert engine.ssh(boxes[1], hog(kind, 5)).stdout == "5 enough\n"
        assert of_host(kind, 5) == "5 enough"


def test_connections_that_a_box_leaves_closing_are_not_limited_by_the_hosts_number(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec], tmp_path: Path
) -> None:
    limit, before = Path("/proc/sys/net/ipv4/tcp_max_orphans"), Path("/proc/sys/net/ipv4/tcp_max_orphans").read_text()
    limit.write_text("100")
    raise_limits({"net.ipv4.tcp_max_orphans": wanted_limits(4)["net.ipv4.tcp_max_orphans"]}, tmp_path / "noted.json")
    try:
        with taken(engine, boxes[0], "orphan", 300) as said:
            assert said == "300 enough"
            assert int(Path("/proc/net/sockstat").read_text().partition("orphan ")[2].split()[0]) >= 300
    finally:
        limit.write_text(before)


def test_a_user_that_takes_all_timers_leaves_others_theirs(engine: Engine, boxes: tuple[BoxSpec, BoxSpec]) -> None:
    with taken(engine, boxes[0], "timer") as said:
        assert said.endswith("Resource temporarily unavailable")
        assert engine.ssh(boxes[1], hog("timer", 500)).stdout == "500 enough\n"
        assert of_host("timer", 500) == "500 enough"


def test_a_box_that_takes_timers_as_many_users_leaves_the_host_its_quarter(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    together = signals_of_all_boxes()
    if together is None:
        pytest.skip("this machine has no limit of timers")
    users = f"sudo setpriv --reuid=$id --clear-groups {hog('timer', 10**9)}"
    everybody = f"for id in $(seq 2000 2007); do sleep 8 | {users} & done; wait"
    child = subprocess.Popen(
        engine.ssh_command(boxes[0], everybody), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        counts = [int(child.stdout.readline().split()[0]) for _ in range(8)]
        assert of_host("timer", 500) == "500 enough"
    finally:
        child.communicate(timeout=60)
    assert max(counts) <= engine.options.limits.signals
    assert sum(counts) <= together


def test_a_box_that_takes_all_message_queues_leaves_the_host_its_quarter(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    with taken(engine, boxes[0], "queue") as said:
        assert said.endswith("Too many open files")
        assert int(said.split()[0]) >= 1
        assert of_host("queue", 2) == "2 enough"


def login_from_terminal(engine: Engine, spec: BoxSpec, typed: bytes) -> subprocess.CompletedProcess[str]:
    """As somebody at a terminal, whose ssh asks for one in the box."""
    own, of_ssh = os.openpty()
    os.write(own, typed)
    command = engine.ssh_command(spec, "")[:-1]
    try:
        return subprocess.run(command, stdin=of_ssh, capture_output=True, text=True, timeout=30)
    finally:
        os.close(own)
        os.close(of_ssh)


@contextmanager
def session(engine: Engine, spec: BoxSpec) -> Iterator[Callable[[str], str]]:
    """A session that has a terminal; what types a line into it and gives the line that it answers."""
    command = [*engine.ssh_command(spec, "cat")]
    child = subprocess.Popen(
        [command[0], "-tt", "-o", "ServerAliveInterval=1", *command[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    typed, shown = child.stdin, child.stdout

    def say(line: str) -> str:
        print(line, file=typed, flush=True)
        shown.readline()  # the terminal's echo
        return shown.readline().strip()

    try:
        yield say
    finally:
        child.kill()
        child.communicate(timeout=30)


def test_running_sessions_go_on_while_another_box_has_no_terminal_left(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    with session(engine, boxes[1]) as own, session(engine, boxes[0]) as hostile:
        assert (own("before"), hostile("before")) == ("before", "before")
        for _ in range(3):
            with taken(engine, boxes[0], "terminal") as said:
                assert said.endswith("No space left on device")
                assert (own("meanwhile"), hostile("meanwhile")) == ("meanwhile", "meanwhile")
        assert (own("after"), hostile("after")) == ("after", "after")


def test_a_box_has_its_own_number_of_terminals_and_says_when_none_is_left(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    most = engine.options.limits.terminals
    with taken(engine, boxes[0], "terminal") as said:
        assert said == f"{most} No space left on device"
        assert engine.ssh(boxes[1], hog("terminal", 20)).stdout == "20 enough\n"
        assert of_host("terminal", 20) == "20 enough"
        login = login_from_terminal(engine, boxes[0], b"echo works\nexit\n")
        assert "No terminal is free in this box" in login.stderr
        assert "works" in login.stdout
    assert "No terminal" not in engine.ssh(boxes[0], "true").stderr


# With FAN_REPORT_FID, which the kernel gives to everybody.
FANOTIFY = "import ctypes; exit(ctypes.CDLL(None).syscall(300, 0x200, 0) < 0)"
PROBES = {
    "a user namespace": "unshare --user true",
    "a user namespace as root": "sudo unshare --user true",
    "a key": 'python3 -c "import ctypes; exit(ctypes.CDLL(None).syscall(250, 1, None) < 0)"',
    "the kernel's log": 'sudo python3 -c "import ctypes; exit(ctypes.CDLL(None).syscall(103, 10, None, 0) < 0)"',
    "events of whole file systems": f"python3 -c '{FANOTIFY}'",
    "events of whole file systems as root": f"sudo python3 -c '{FANOTIFY}'",
    "a raw socket": "sudo python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
    "a socket to the hypervisor": "python3 -c 'import socket; socket.socket(socket.AF_VSOCK)'",
}


@pytest.mark.parametrize("what", PROBES)
def test_a_box_does_not_get(engine: Engine, boxes: tuple[BoxSpec, BoxSpec], what: str) -> None:
    done = engine.ssh(boxes[0], PROBES[what])
    assert done.returncode == 1, done
    assert "Operation not permitted" in done.stderr or "Address family" in done.stderr or "ctypes" in PROBES[what]


def test_threads_programs_and_ping_work_in_a_box(engine: Engine, boxes: tuple[BoxSpec, BoxSpec]) -> None:
    threads = "import threading; thread = threading.Thread(target=print, args=('ran',)); thread.start(); thread.join()"
    assert engine.ssh(boxes[0], f"python3 -c {shlex.quote(threads)}").stdout == "ran\n"
    assert engine.ssh(boxes[0], "ping -c1 -W2 127.0.0.1 >/dev/null && sudo ping -c1 -W2 127.0.0.1").returncode == 0


def test_an_operator_may_allow_user_namespaces() -> None:
    with private_engine("h100=1x1", nested=True) as engine:
        spec = engine.spec(gpus=())
        engine.up(spec)
        assert engine.ssh(spec, "unshare --user --map-root-user id -u").stdout == "0\n"
        assert engine.ssh(spec, PROBES["a key"]).returncode == 1


def test_a_box_may_lock_as_much_memory_as_the_machine_allows(engine: Engine, boxes: tuple[BoxSpec, BoxSpec]) -> None:
    most = locked_memory()
    shown = engine.ssh(boxes[0], "ulimit -Hl; ulimit -Sl").stdout.split()
    assert shown == ["unlimited" if most == UNLIMITED else str(most // 1024)] * 2


UNREAD = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
held = []
for _ in range(40):
    one = socket.create_connection(server.getsockname(), timeout=20)
    held.append((one, server.accept()[0]))
    one.setblocking(False)
    try:
        while True:
            one.send(bytes(65536))
    except BlockingIOError:
        pass
print("filled", flush=True)
sys.stdin.read()
"""


def socket_bytes() -> int:
    """Of all TCP sockets of the machine."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    return int(line.split()[-1]) * resource.getpagesize()


@pytest.mark.skipif(Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="cgroup v2 counts it as memory")
def test_what_a_box_leaves_unread_in_its_sockets_is_limited() -> None:
    with private_engine("h100=1x28") as engine:
        spec = engine.spec(gpus=())
        engine.up(spec)
        most = engine.options.limits.socket_bytes_per_unit
        before = socket_bytes()
        command = engine.ssh_command(spec, f"python3 -c {shlex.quote(UNREAD)}")
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "filled\n"
            assert socket_bytes() - before < 1.5 * most
        finally:
            child.kill()
            child.communicate(timeout=30)


def test_limits_that_the_host_resets_are_noticed_and_raised_again(tmp_path: Path) -> None:
    name, file = "net.ipv4.neigh.default.gc_thresh3", Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    before = int(file.read_text())
    with private_engine("h100=1x1") as engine:
        limits = replace(engine.options.limits, kernel={name: before + 8}, noted=tmp_path / "noted.json")
        cluster = EngineCluster(engine.api, engine.nodes, replace(engine.options, limits=limits))
        spec = engine.spec(gpus=())
        uid = cluster.create_box(spec).uid
        try:
            cluster.start_box(spec.name, uid)
            assert int(file.read_text()) == before + 8
            sockets = Path(SOCKET_LIMIT.format(uid=uid))
            limited = sockets.read_text() if sockets.exists() else ""
            file.write_text(str(before))
            engine.podman("restart", "-t", "0", engine.container(spec))
            report = cluster.check_host(cluster.list_boxes())
            assert any(name in text for text in problem_texts(report.repaired))
            assert int(file.read_text()) == before + 8
            assert not limited or sockets.read_text() == limited
        finally:
            restore_limits(tmp_path / "noted.json")
    assert int(file.read_text()) == before


def test_the_kernel_kills_processes_of_boxes_before_those_of_the_host(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    scores = engine.ssh(boxes[0], "cat /proc/1/oom_score_adj /proc/self/oom_score_adj").stdout.split()
    assert scores == ["500", "550"]
    lowered = engine.ssh(boxes[0], "echo 0 | sudo tee /proc/self/oom_score_adj")
    assert lowered.returncode == (1 if may_raise() else 0)


FLOOD = """
import socket
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(1024, 41024):
    try:
        link.sendto(b"", ("203.0.113.1", port))
    except OSError:
        pass
"""


def test_a_box_that_opens_many_connections_at_once_does_not_fill_the_hosts_table(
    engine: Engine, boxes: tuple[BoxSpec, BoxSpec]
) -> None:
    count = Path("/proc/sys/net/netfilter/nf_conntrack_count")
    before = int(count.read_text())
    assert engine.ssh(boxes[0], f"python3 -c {shlex.quote(FLOOD)}").returncode == 0
    assert int(count.read_text()) - before < 20_000
    assert engine.ssh(boxes[1], "true").returncode == 0


CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@contextmanager
def core_pattern(text: str) -> Iterator[None]:
    """The machine's pattern for the memory of processes that crash, for a moment."""
    before = CORE_PATTERN.read_text()
    CORE_PATTERN.write_text(text)
    try:
        yield
    finally:
        CORE_PATTERN.write_text(before)


def test_what_crashes_in_a_box_is_not_given_to_programs_of_the_host(engine: Engine, tmp_path: Path) -> None:
    helper, told = tmp_path / "helper", tmp_path / "told"
    helper.write_text(f"#!/bin/sh\nhead -c 4 >/dev/null; echo $1 $2 >> {told}\n")
    helper.chmod(0o755)
    crash = f"python3 -c {shlex.quote(CRASH)}; echo $?"

    def heard() -> dict[int, int]:
        lines = told.read_text().splitlines() if told.exists() else []
        return {int(user): int(limit) for user, limit in map(str.split, lines)}

    with core_pattern(f"|{helper} %u %c"):
        spec = engine.spec(gpus=())
        engine.up(spec)
        assert engine.ssh(spec, crash).stdout == "139\n"
        subprocess.run([sys.executable, "-c", CRASH], check=False)
        eventually("the host's own crash was told", lambda: 0 in heard())
        assert all(user < ID_BASE for user in heard())
        assert engine.ssh(spec, "bash -c 'ulimit -c unlimited'").returncode != 0
        # Who lowers the limit, as sudo does, is heard again, but the program is told that nothing is to be kept.
        assert engine.ssh(spec, f"ulimit -c 0; {crash}").stdout == "139\n"
        eventually("the crash was told", lambda: max(heard()) >= ID_BASE)
        assert heard()[max(heard())] == 0
