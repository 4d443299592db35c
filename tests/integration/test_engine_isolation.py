"""Who reaches whom: boxes of one reservation each other, boxes of different ones nobody."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from tests.boxes import end_box
from tests.engine import Engine, private_engine
from tests.lane import lane_name
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.engine.firewall import forget_rules, is_kept_apart, keep_apart
from odc.domain.box import BoxSpec
from odc.domain.errors import ProviderUnavailable
from odc.domain.problem import ProblemKind

pytestmark = pytest.mark.podman


def address(engine: Engine, spec: BoxSpec) -> str:
    return engine.ssh(spec, "hostname -I").stdout.split()[0]


def reaches(engine: Engine, spec: BoxSpec, target: str) -> bool:
    greeting = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{target}/22 && head -c 4 <&3'"
    return engine.ssh(spec, greeting).stdout == "SSH-"


def test_boxes_of_one_reservation_reach_each_other_and_no_others_even_when_some_have_ended() -> None:
    with private_engine("h100=1x4") as engine:
        gang = uuid.uuid4().hex
        first, second = (engine.spec(reservation_id=gang, rank=rank, gpus=()) for rank in (0, 1))
        other, ended = engine.spec(gpus=()), engine.spec(gpus=())
        uids = [engine.up(spec) for spec in (first, second, other, ended)]
        end_box(engine.cluster, ended.name, uids[3])
        engine.cluster.clean_up(ended.name.reservation_id, 1)
        assert reaches(engine, first, address(engine, second))
        assert not reaches(engine, other, address(engine, first))
        assert not reaches(engine, first, address(engine, other))


KNOCK = """
import socket, struct, subprocess, sys, time
port = int(sys.argv[1])
way = subprocess.run(["ip", "route", "get", "8.8.8.8"], capture_output=True, text=True).stdout.split()
gateway, name = way[way.index("via") + 1], way[way.index("dev") + 1]
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"who?", (gateway, 9))
time.sleep(0.5)
mac = next(line.split()[3] for line in open("/proc/net/arp") if line.startswith(gateway + " "))
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((name, 0))
own = socket.inet_aton(way[way.index("src") + 1])
said = b"knock"
datagram = struct.pack("!4H", 40000, port, 8 + len(said), 0) + said
head = struct.pack("!2B3H2BH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, 17, 0, own, socket.inet_aton("127.0.0.1"))
total = sum(struct.unpack("!10H", head))
while total >> 16:
    total = (total & 0xffff) + (total >> 16)
head = head[:10] + struct.pack("!H", 0xffff - total) + head[12:]
link.send(bytes.fromhex(mac.replace(":", "")) + link.getsockname()[4] + b"\\x08\\x00" + head + datagram)
print("sent")
"""


def test_no_box_reaches_the_machines_own_loopback_by_packets_made_by_hand() -> None:
    with private_engine("h100=1x1") as engine, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(1)
        spec = engine.spec(gpus=())
        engine.up(spec)
        knock = f"sudo python3 -c {shlex.quote(KNOCK)} {service.getsockname()[1]}"
        assert "PermissionError" in engine.ssh(spec, knock).stderr
        # And if a box could: the host sends from inside of its network.
        assert knock_from(engine, spec, service) == "sent\n"
        with pytest.raises(TimeoutError):
            service.recv(64)
        port = service.getsockname()[1]
        # Whatever the engine's own rules do, it is ours that keep the packets out: another cloud may restore its own.
        eventually("a packet comes in", lambda: knocks_at(engine, spec, service, restored=False))
        assert not knocks_at(engine, spec, service, restored=True)
        accepted = f"PREROUTING -d 127.0.0.1/32 -p udp -m udp --dport {port} -j ACCEPT"
        with let_through(port):
            assert not is_kept_apart(engine.cloud)
            told = engine.cluster.check_host(()).repaired
            assert [accepted in found.detail for found in told if found.kind is ProblemKind.ISOLATION_RESTORED] == [
                True
            ]
            assert is_kept_apart(engine.cloud)
            assert not engine.cluster.check_host(()).repaired


def knocks_at(engine: Engine, spec: BoxSpec, service: socket.socket, restored: bool) -> bool:
    """Whether a packet reaches the service past a rule that lets it through, before or after our rules are restored."""
    with let_through(service.getsockname()[1]):
        if restored:
            keep_apart(engine.cloud, engine.options.network)
        assert knock_from(engine, spec, service) == "sent\n"
        with suppress(TimeoutError):
            return service.recv(64) == b"knock"
    return False


def knock_from(engine: Engine, spec: BoxSpec, service: socket.socket) -> str:
    pid = engine.podman("inspect", "--format", "{{.State.Pid}}", engine.container(spec))
    command = ["nsenter", "-t", pid, "-n", sys.executable, "-c", KNOCK, str(service.getsockname()[1])]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


METADATA = ("169.254.169.254", "168.63.129.16", "100.100.100.200")
ASK = """
import socket, sys
for target in sys.argv[1:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        query.settimeout(5)
        query.sendto(b"name?", (target, 53))
        print(target, query.recv(64).decode(), end=" ")
    try:
        with socket.create_connection((target, 80), timeout=2) as connection:
            print(connection.recv(64).decode())
    except TimeoutError:
        print("nothing")
"""


METADATA_ALONE = pytest.mark.alone("the addresses of metadata services, one of them the DNS server's, are taken")


@contextmanager
def metadata_services() -> Iterator[None]:
    """Each address is the machine's own for a moment, and says `secret` at port 80 and `answer` at port 53."""
    link = lane_name("odcmeta")
    subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=True)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "link", "del", link], check=True)
        threads = stack.enter_context(ThreadPoolExecutor(max_workers=2 * len(METADATA)))
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
        for address in METADATA:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", link], check=True)
            web = stack.enter_context(socket.create_server((address, 80)))
            names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            names.bind((address, 53))
            for served, answer in ((web, _say_secret), (names, _say_answer)):
                served.settimeout(0.3)  # a thread that waits in the kernel would keep the address taken
                threads.submit(answer, served)
        yield


def _say_secret(web: socket.socket) -> None:
    with suppress(OSError):
        while True:
            with suppress(TimeoutError), web.accept()[0] as connection:
                connection.sendall(b"secret")


def _say_answer(names: socket.socket) -> None:
    with suppress(OSError):
        while True:
            with suppress(TimeoutError):
                names.sendto(b"answer", names.recvfrom(64)[1])


def said_closed_opened_closed(engine: Engine, program: str) -> list[str]:
    """What a program in a box says of the metadata services: as usual, once an operator has opened them, and after."""
    spec = engine.spec(gpus=())
    engine.up(spec)
    ask = f"python3 -c {shlex.quote(program)} {' '.join(METADATA)}"
    said = [engine.ssh(spec, ask).stdout]
    for metadata in (True, False):
        keep_apart(engine.cloud, engine.options.network, metadata)
        said.append(engine.ssh(spec, ask).stdout)
    return said


@METADATA_ALONE
def test_boxes_reach_no_metadata_service_but_its_dns_unless_the_operator_says_so() -> None:
    with private_engine("h100=1x1") as engine, metadata_services():
        closed = "".join(f"{address} answer nothing\n" for address in METADATA)
        opened = "".join(f"{address} answer secret\n" for address in METADATA)
        assert said_closed_opened_closed(engine, ASK) == [closed, opened, closed]


OTHERS = """
import socket, sys
for target in sys.argv[1:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as echo:
        echo.settimeout(2)
        echo.sendto(bytes([8, 0, 0, 0, 0, 0, 0, 1]), (target, 0))
        try:
            print(target, "icmp", echo.recv(64)[0])
        except TimeoutError:
            print(target, "nothing")
"""


@METADATA_ALONE
def test_boxes_reach_metadata_services_by_no_other_protocol_either() -> None:
    with private_engine("h100=1x1") as engine, metadata_services():
        closed = "".join(f"{address} nothing\n" for address in METADATA)
        opened = "".join(f"{address} icmp 0\n" for address in METADATA)
        assert said_closed_opened_closed(engine, OTHERS) == [closed, opened, closed]
        assert not keep_apart(engine.cloud, engine.options.network, False)


WAYS = """
import socket, struct
gateway = open("/proc/net/route").read().split("\\n")[1].split()[2]
gateway = socket.inet_ntoa(struct.pack("<I", int(gateway, 16)))
target = "169.254.169.254"
def mapped(): return socket.create_connection(("::ffff:" + target, 80), 2)
def by_gateway():
    way = socket.socket()
    way.settimeout(2)
    way.setsockopt(0, socket.IP_OPTIONS, bytes([131, 7, 4]) + socket.inet_aton(gateway) + b"\\0")
    way.connect((target, 80))
    return way
def names_web():
    return socket.create_connection(("0xa9fea9fe", 80), 2)
for way in (mapped, by_gateway, names_web):
    try:
        print(way.__name__, way().recv(64))
    except OSError as error:
        print(way.__name__, "nothing")
"""


@METADATA_ALONE
def test_no_other_spelling_or_source_route_leads_to_a_metadata_service() -> None:
    with private_engine("h100=1x1") as engine, metadata_services():
        spec = engine.spec(gpus=())
        engine.up(spec)
        told = engine.ssh(spec, f"python3 -c {shlex.quote(WAYS)}")
        assert told.stdout.splitlines() == ["mapped nothing", "by_gateway nothing", "names_web nothing"], told


def test_a_box_has_no_ipv6_to_the_machine_but_its_own_loopback() -> None:
    with private_engine("h100=1x1") as engine:
        spec = engine.spec(gpus=())
        engine.up(spec)
        shown = engine.ssh(spec, "cat /proc/net/if_inet6").stdout.splitlines()
        assert [line.split()[-1] for line in shown] in (["lo"], [])


@contextmanager
def let_through(port: int) -> Iterator[None]:
    """Past our rules, and those of any cloud beside: what they keep out would come in."""
    rule = ["PREROUTING", "-d", "127.0.0.1", "-p", "udp", "--dport", str(port), "-j", "ACCEPT"]
    subprocess.run(["iptables", "-w", "-t", "mangle", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-w", "-t", "mangle", "-D", *rule], check=True)


def test_the_rule_is_made_once_and_goes_with_its_cloud() -> None:
    cloud = f"odcrule{uuid.uuid4().hex[:6]}"
    try:
        for network in ("203.0.113.0/25", "203.0.113.0/25", "203.0.113.128/25"):
            keep_apart(cloud, network)
        assert is_kept_apart(cloud)
    finally:
        forget_rules(cloud)
    assert not is_kept_apart(cloud)


def test_boxes_of_an_earlier_network_are_kept_apart_again_after_a_flush() -> None:
    with private_engine("h100=1x1") as engine:
        engine.up(engine.spec(gpus=()))
        earlier = engine.options.network
        # The box's port is beyond what the new network would serve.
        ports = (engine.options.ports[0] - 16, engine.options.ports[1])
        options = replace(engine.options, network="203.0.113.0/24", ports=ports)
        changed = EngineCluster(engine.api, engine.nodes, options)
        changed.check_host(changed.list_boxes())
        forget_rules(engine.cloud)
        assert ProblemKind.ISOLATION_RESTORED in [found.kind for found in changed.check_host(()).repaired]
        sources = [rule.split()[3] for rule in mangle_rules(engine.cloud) if rule.startswith("-A PREROUTING -s ")]
        kept = {source for source in sources if IPv4Network(source).subnet_of(IPv4Network(earlier))}
        assert {source for source in sources if source not in kept} == {"203.0.113.0/24"}
        assert [sources.count(source) for source in kept] == [sources.count("203.0.113.0/24")]
        assert not changed.check_host(()).repaired


def mangle_rules(cloud: str) -> list[str]:
    command = ["iptables", "-w", "-t", "mangle", "-S"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if f"odc {cloud}: boxes" in line]


def test_a_rule_that_cannot_be_made_is_told_and_no_box_is_started() -> None:
    with pytest.raises(ProviderUnavailable, match="cannot be kept apart"):
        keep_apart("odcrule", "no network")
