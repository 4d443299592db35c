"""What the host does behind the cloud's back is noticed, put back where that is possible, and told."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.cloud import Person, add_person, destroy, make_cloud
from tests.e2e.operated import CLAIMS
from tests.own_machine import CloudOfItsOwn, OwnMachine, own_machine
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


@pytest.fixture(scope="module")
def machine() -> Iterator[OwnMachine]:
    with own_machine() as made:
        yield made


@pytest.fixture(scope="module")
def apart(machine: OwnMachine, bin_folder: Path) -> Iterator[CloudOfItsOwn]:
    """A cloud that is up on a machine of its own."""
    plain = make_cloud(bin_folder, name="apart", number=1, limits={"missing_s": 1, "grace_s": 2})
    made = CloudOfItsOwn(**{name: getattr(plain, name) for name in vars(plain)}, machine=machine)
    try:
        made.odc("up")
        yield made
    finally:
        destroy(made)


@pytest.fixture(scope="module")
def user(apart: CloudOfItsOwn) -> Person:
    person = add_person(apart, "u")
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return person


@dataclass
class Train:
    """An active reservation with a disk, and how many events it had when the test began."""

    user: Person
    port: int
    events: int = 0

    def told(self, kind: str) -> list[str]:
        """The texts of its events of this kind since then."""
        events = self.user.json("show", "train", "--history")["events"][self.events :]
        return [event["text"] for event in events if event["kind"] == kind]


@pytest.fixture(scope="module")
def running_train(apart: CloudOfItsOwn, user: Person) -> Iterator[Train]:
    user.ok("reserve", "-t", "h100", "-g", "1", "-h", "2", "-n", "train", "--disk", "data", "--yes")
    view = user.until("train", "active")
    box = apart.boxes()[0]["Id"]
    # Two probes: after the first one the cloud knows how the box is reached.
    eventually("it was checked", lambda: apart.box_log(box).count("[preauth]") > 1)
    yield Train(user, int(view["boxes"][0]["ssh"]["port"]))
    user.ok("cancel", "train", "--yes")
    user.until("train", "cancelled")


@pytest.fixture
def train(running_train: Train) -> Train:
    """The reservation, which is reachable."""
    eventually("it is reachable", lambda: not running_train.user.view("train")["trouble"])
    return replace(running_train, events=len(running_train.user.json("show", "train", "--history")["events"]))


def end(user: Person, name: str) -> None:
    user.ok("cancel", name, "--yes")
    user.until(name, "cancelled")


def in_box(machine: OwnMachine, user: Person, port: int, command: str) -> subprocess.CompletedProcess[str]:
    options = ["-F", "none", "-i", str(user.home / ".ssh/id_ed25519"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    words = machine.command("ssh", *options, "-p", str(port), "dev@127.0.0.1", command)
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def is_told_and_reachable(machine: OwnMachine, train: Train) -> None:
    eventually("it is told", lambda: train.told("unreachable"))
    eventually("SSH answers again", lambda: machine.greeting(train.port) == "SSH-")
    eventually("that is told too", lambda: train.told("reachable"))


def test_after_a_flush_of_the_packet_filter_boxes_are_reachable_and_apart_again(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    before = machine.rules()
    assert machine.greeting(train.port) == "SSH-"
    machine.flush_packet_filter()
    assert machine.greeting(train.port) == ""
    is_told_and_reachable(machine, train)
    assert "packet filter has lost rules" in train.told("unreachable")[0]
    assert "reachable" not in user.view("train")["trouble"]
    own = [line for line in before.splitlines() if f"odc {apart.name}: boxes" in line]
    assert own
    assert all(line in machine.rules() for line in own)
    assert in_box(machine, user, train.port, "echo in").stdout == "in\n"
    assert "it was put back" in apart.odc("doctor", check=False).out
    assert "put back on the host" in apart.log()


def rules_of(rules: str, port: int) -> list[str]:
    """The rules of a port, alone or as part of a range."""
    found = ((line, re.search(r"--dport (\d+)(?::(\d+))? ", line)) for line in rules.splitlines())
    return [line for line, ports in found if ports and int(ports[1]) <= port <= int(ports[2] or ports[1])]


def test_lost_rules_that_ssh_from_this_machine_does_not_need_are_put_back_too(
    machine: OwnMachine, user: Person, train: Train
) -> None:
    ports = user.view("train")["boxes"][0]["ports"]
    before = rules_of(machine.rules(), ports["jupyter"])
    assert before == rules_of(machine.rules(), ports["ssh"])
    # For connections of boxes to their own published ports.
    lost = [rule for rule in before if "-j NETAVARK-HOSTPORT-SETMARK" in rule and "-s 127.0.0.1/32" not in rule]
    assert lost
    for rule in lost:
        machine.run("iptables", "-t", "nat", "-D", *shlex.split(rule.removeprefix("-A ")))
    assert machine.greeting(train.port) == "SSH-"
    is_told_and_reachable(machine, train)
    assert sorted(rules_of(machine.rules(), ports["ssh"])) == sorted(before)


def test_a_flush_while_the_daemon_is_down_is_mended_when_it_comes_up(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    apart.odc("down")
    machine.flush_packet_filter()
    apart.odc("up")
    assert f"odc {apart.name}: boxes" in machine.rules()
    is_told_and_reachable(machine, train)
    assert in_box(machine, user, train.port, "echo in").stdout == "in\n"


def test_while_the_packet_filter_takes_no_rules_no_box_starts(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    program = machine.run("readlink", "-f", "/usr/sbin/iptables").out.strip()
    machine.run("mount", "--bind", "/bin/false", program)
    try:
        eventually("it is told", lambda: "boxes cannot be kept apart" in user.ok("status"))
        user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "next", "--disk", "none", "--yes")
        eventually("it waits", lambda: "boxes cannot be kept apart" in user.view("next")["trouble"])
        assert (user.view("next")["state"], user.view("next")["attempt"]) == ("queued", 0)
    finally:
        machine.run("umount", program)
    assert user.until("next", "active")["attempt"] == 1
    end(user, "next")


def test_a_bridge_that_was_deleted_is_made_again(machine: OwnMachine, user: Person, train: Train) -> None:
    links = machine.run("ip", "-br", "link").out.splitlines()
    bridge = next(line.split()[0] for line in links if line.startswith("podman"))
    machine.run("ip", "link", "delete", bridge)
    is_told_and_reachable(machine, train)
    assert f"the bridge {bridge} of its network is gone" in train.told("unreachable")[0]
    assert in_box(machine, user, train.port, "ip route | grep -c default").stdout == "1\n"


@pytest.mark.parametrize(
    "change", ["ip link set {bridge} down", "ip address flush dev {bridge}", "ip link set {link} nomaster"]
)
def test_a_bridge_that_leads_nowhere_is_made_again(
    machine: OwnMachine, user: Person, train: Train, change: str
) -> None:
    links = machine.run("ip", "-br", "link").out.splitlines()
    bridge = next(line.split()[0] for line in links if line.startswith("podman"))
    link = machine.run("ip", "-br", "link", "show", "master", bridge).out.partition("@")[0]
    machine.run(*change.format(bridge=bridge, link=link).split())
    is_told_and_reachable(machine, train)
    assert f"the bridge {bridge} of its network is down" in train.told("unreachable")[0]
    assert in_box(machine, user, train.port, "ip route | grep -c default").stdout == "1\n"


def test_one_lost_port_rule_is_noticed_and_made_again(machine: OwnMachine, user: Person, train: Train) -> None:
    lose_port_rule(machine, train)
    is_told_and_reachable(machine, train)


def lose_port_rule(machine: OwnMachine, train: Train) -> None:
    rules = machine.run("iptables", "-t", "nat", "-S", "NETAVARK-HOSTPORT-DNAT").out
    (line,) = rules_of(rules, train.port)
    machine.run("bash", "-c", f"iptables -t nat {line.replace('-A', '-D', 1)}")


def test_an_unreachable_box_is_told_after_two_checks_at_most(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    lost_at = datetime.now(UTC)
    lose_port_rule(machine, train)
    is_told_and_reachable(machine, train)
    events = user.json("show", "train", "--history")["events"][train.events :]
    told_at = next(datetime.fromisoformat(event["at"]) for event in events if event["kind"] == "unreachable")
    # Each check that does not reach the port asks the box's SSH server at its own address, which logs that.
    log = machine.run("bash", "-c", f"podman logs --timestamps {apart.boxes()[0]['Id']} 2>&1").out
    probes = [line.split()[0] for line in log.splitlines() if re.search(r"Connection (reset|closed) by \d", line)]
    times = [datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", probe)) for probe in probes]
    during = [at for at in times if lost_at < at < told_at]
    assert 1 <= len(during) <= 2, (lost_at, told_at, log)


def is_first(machine: OwnMachine, apart: CloudOfItsOwn, chain: str) -> bool:
    """Whether the first rule of the chain in mangle is one of ours."""
    return f"odc {apart.name}: boxes" in machine.run("iptables", "-t", "mangle", "-S", chain).out.splitlines()[1]


def test_rules_that_accept_packets_before_those_that_isolate_boxes_come_after_them_again(
    machine: OwnMachine, apart: CloudOfItsOwn, train: Train
) -> None:
    accepts = {"FORWARD": ["-j", "ACCEPT"], "PREROUTING": ["-i", "eth0", "-j", "ACCEPT"]}
    for chain, words in accepts.items():
        machine.run("iptables", "-t", "mangle", "-I", chain, *words)
    try:
        for chain, words in accepts.items():
            eventually(f"ours are first in {chain}", partial(is_first, machine, apart, chain))
            assert machine.run("iptables", "-t", "mangle", "-S", chain).out.endswith(f"{' '.join(words)}\n")
        told = "before those that keep boxes apart"
        eventually("it is told", lambda: told in apart.odc("doctor", check=False).out)
        assert told in apart.log()
    finally:
        for chain, words in accepts.items():
            machine.run("iptables", "-t", "mangle", "-D", chain, *words)


def test_rules_that_only_other_machines_need_are_noticed_too(machine: OwnMachine, user: Person, train: Train) -> None:
    before = machine.run("iptables", "-S", "NETAVARK_FORWARD").out
    machine.run("iptables", "-F", "NETAVARK_FORWARD")
    assert machine.greeting(train.port) == "SSH-"
    is_told_and_reachable(machine, train)
    assert sorted(machine.run("iptables", "-S", "NETAVARK_FORWARD").out.split("\n")) == sorted(before.split("\n"))


def test_forwarding_that_was_turned_off_is_turned_on_again(
    machine: OwnMachine, apart: CloudOfItsOwn, train: Train
) -> None:
    machine.run("sysctl", "-w", "net.ipv4.ip_forward=0")
    forwards = "/proc/sys/net/ipv4/ip_forward"
    eventually("it forwards", lambda: machine.run("cat", forwards).out == "1\n")
    assert "did not forward packets" in apart.odc("doctor", check=False).out


def test_a_network_namespace_that_was_unmounted_is_mounted_again(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    lines = machine.run("cat", "/proc/self/mountinfo").out.splitlines()
    places = [line.split()[4] for line in lines if "/run/netns/netns" in line]
    # What the real host has mounted is listed too, hidden below the machine's own folder.
    place = [one for one in places if machine.run("mountpoint", "-q", one, check=False).code == 0][-1]
    machine.run("umount", "-l", place)
    eventually("it is mounted", lambda: place in machine.run("cat", "/proc/self/mountinfo").out)
    assert in_box(machine, user, train.port, "echo in").stdout == "in\n"


def test_a_deleted_device_description_and_program_are_written_again(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    description, program = f"/etc/cdi/odc-{apart.name}-simulated.json", apart.state / "programs/odc-box"
    content = machine.run("cat", description).out
    machine.run("rm", description, str(program))
    eventually("they are there", lambda: machine.run("test", "-e", description, check=False).code == 0)
    assert machine.run("cat", description).out == content
    assert program.stat().st_mode & 0o777 == 0o755
    user.ok("reserve", "-t", "h100", "-g", "1", "-h", "1", "-n", "next", "--disk", "none", "--wait", "--yes")
    end(user, "next")


def test_while_the_image_is_gone_reservations_wait_and_say_so(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person, train: Train
) -> None:
    image = str(apart.settings["image"])
    # The engine of this machine sees the real machine's images read-only: it loses sight of all of them.
    machine.run("sed", "-i", "s/^additionalimagestores/#&/", "/etc/containers/storage.conf")
    try:
        os.kill(apart.engine_pid(), signal.SIGKILL)
        eventually("it is told", lambda: f"the image {image} of boxes is gone" in user.ok("status"))
        user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "next", "--disk", "none", "--yes")
        eventually("it waits", lambda: "is gone; the operator builds it" in user.view("next")["trouble"])
    finally:
        machine.run("sed", "-i", "s/^#additionalimagestores/additionalimagestores/", "/etc/containers/storage.conf")
        os.kill(apart.engine_pid(), signal.SIGKILL)
    assert user.until("next", "active")["attempt"] == 1
    end(user, "next")
    assert in_box(machine, user, train.port, "echo in").stdout == "in\n"


def test_a_deleted_socket_and_note_of_the_cloud_are_made_again(apart: CloudOfItsOwn, user: Person) -> None:
    note = next(path for path in CLAIMS.glob("*.json") if json.loads(path.read_bytes())["cloud"] == apart.name)
    noted = note.read_bytes()
    apart.socket.unlink()
    note.unlink()
    eventually("it answers", apart.is_ready)
    assert apart.socket.stat().st_mode & 0o777 == 0o666
    eventually("it is noted", note.exists)
    assert note.read_bytes() == noted
    user.ok("list")


def test_a_log_that_was_moved_or_deleted_is_begun_again(apart: CloudOfItsOwn, user: Person) -> None:
    log = apart.state / "odc.log"
    for act in (lambda: log.rename(log.with_suffix(".log.old")), log.unlink):
        act()
        user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "noted", "--disk", "none", "--wait", "--yes")
        end(user, "noted")
        eventually("it is logged", lambda: "placed" in apart.log())
        assert log.stat().st_mode & 0o777 == 0o600


HOSTILE = {
    "CONTAINER_HOST": "unix:///nonexistent/podman.sock",
    "CONTAINER_CONNECTION": "elsewhere",
    "CONTAINERS_CONF": "/nonexistent/containers.conf",
    "CONTAINERS_STORAGE_CONF": "/nonexistent/storage.conf",
    "CONTAINERS_REGISTRIES_CONF": "/nonexistent/registries.conf",
    "DOCKER_HOST": "tcp://127.0.0.1:1",
    "STORAGE_DRIVER": "nonsense",
    "TMPDIR": "/nonexistent",
    "XDG_RUNTIME_DIR": "/nonexistent/run",
    "XDG_CONFIG_HOME": "/nonexistent/config",
    "LANG": "xx_YY.nonsense",
    "LC_ALL": "xx_YY.nonsense",
    "PATH": ".:/bin",
    "HOME": "nowhere",
    "PYTHONWARNINGS": "error",
    "PYTHONSTARTUP": "/nonexistent.py",
}


def test_a_cloud_comes_up_whatever_is_in_the_environment_and_names_what_it_ignores(
    machine: OwnMachine, apart: CloudOfItsOwn, user: Person
) -> None:
    apart.odc("down")
    os.kill(apart.engine_pid(), signal.SIGKILL)
    words = [f"{name}={value}" for name, value in HOSTILE.items()]
    odc = ["/usr/bin/env", *words, str(apart.bin / "odc"), "--config", str(apart.config)]
    done = machine.run("/bin/bash", "-c", 'umask 077; "$0" "$@" <&-', *odc, "up", check=False)
    assert done.code == 0, f"{done}{apart.log()[-2000:]}"
    for name in ("CONTAINER_HOST", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST", "TMPDIR ('/nonexistent' is not a folder"):
        assert name in done.out
    assert "PYTHON" not in done.out
    user.ok("reserve", "-t", "t4", "-g", "1", "-h", "1", "-n", "env", "--disk", "none", "--wait", "--yes")
    end(user, "env")
    doctor = machine.run("/bin/bash", "-c", '"$0" "$@" <&-', *odc, "doctor", check=False)
    assert "not used: CONTAINERS_CONF, CONTAINERS_REGISTRIES_CONF" in doctor.out
    assert "Traceback" not in doctor.err + doctor.out
    failed = [line for line in doctor.out.splitlines() if line.startswith("fail")]
    assert [line for line in failed if "DNS" not in line] == []  # this machine has no way out
