"""The address at which boxes' ports are opened."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from dataclasses import replace

import pytest
from tests.boxes import end_box
from tests.engine import private_engine
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.engine.container import network_request
from odc.adapters.engine.firewall import read_rules
from odc.domain.box import JUPYTER, SSH
from odc.domain.errors import PlaceTaken
from odc.domain.problem_text import problem_texts

pytestmark = pytest.mark.podman


def test_an_address_that_the_machine_has_lost_is_told_and_not_taken_for_taken_ports() -> None:
    with private_engine("h100=1x1") as engine:
        lost = EngineCluster(engine.api, engine.nodes, replace(engine.options, listen="192.0.2.77"))
        problems = problem_texts(lost.check_host(()).problems)
        assert any("lost its address 192.0.2.77" in problem for problem in problems), problems
        assert not any(
            "lost its address" in problem for problem in problem_texts(engine.cluster.check_host(()).problems)
        )


def test_a_boxs_ports_are_one_range_that_leads_to_its_servers() -> None:
    with private_engine("h100=1x1") as engine:
        spec = engine.spec(gpus=())
        engine.up(spec)
        ports = engine.box(spec).ports
        assert ports[JUPYTER] == ports[SSH] + 1
        found = [
            rule for rule in read_rules() if f"--dport {ports[SSH]}" in rule or f"--dport {ports[JUPYTER]}" in rule
        ]
        assert found
        assert all(f"--dport {ports[SSH]}:{ports[JUPYTER]} " in rule for rule in found)
        serve = "cd && echo here > page && nohup python3 -m http.server 8888 > /dev/null 2>&1 &"
        assert engine.ssh(spec, serve).returncode == 0
        page = f"http://127.0.0.1:{ports[JUPYTER]}/page"
        command = ["curl", "-s", "--max-time", "5", page]
        eventually("the page is served", lambda: subprocess.run(command, capture_output=True).stdout == b"here\n")
        assert engine.ssh(spec, "ssh-keyscan -p 22 localhost 2>/dev/null | grep -c ed25519").stdout == "1\n"


@pytest.mark.parametrize("port", [SSH, JUPYTER])
def test_a_box_whose_port_was_taken_before_it_started_gets_another_when_it_is_made_again(port: str) -> None:
    with private_engine("h100=1x1") as engine:
        spec = engine.spec(gpus=())
        box = engine.cluster.create_box(spec)
        with socket.create_server(("127.0.0.1", box.ports[port])):
            with pytest.raises(PlaceTaken):
                engine.cluster.start_box(spec.name, box.uid)
            end_box(engine.cluster, spec.name, box.uid)
            again = engine.cluster.create_box(spec)
            assert box.ports[port] not in again.ports.values()
            engine.cluster.start_box(spec.name, again.uid)
            eventually("SSH answers", lambda: engine.cluster.ssh_answers(again))


def test_ports_are_free_again_once_the_box_or_the_other_program_is_gone() -> None:
    with private_engine("h100=1x1") as engine, ExitStack() as others:
        first = engine.options.ports[0]
        ports = first, first + 2
        cluster = EngineCluster(engine.api, engine.nodes, replace(engine.options, ports=ports))
        one, two = engine.spec(gpus=()), engine.spec(gpus=())
        taken = others.enter_context(socket.create_server(("127.0.0.1", first + 1)))
        box = cluster.create_box(one)
        assert set(box.ports.values()) == {first, first + 2}
        text = f"all ports from {first} to {first + 2} are in use, 1 of them by other programs"
        assert {node.full for node in cluster.list_nodes()} == {text}
        with pytest.raises(PlaceTaken, match=text):
            cluster.create_box(two)
        assert cluster.create_box(one).ports == box.ports
        end_box(cluster, one.name, box.uid)
        assert {node.full for node in cluster.list_nodes()} == {""}
        assert set(cluster.create_box(two).ports.values()) == {first, first + 2}
        taken.close()
        assert {node.full for node in cluster.list_nodes()} != {""}


def test_the_addresses_of_a_network_whose_box_was_never_made_are_not_given_to_another() -> None:
    with private_engine("h100=1x1") as engine:
        first = engine.options.ports[0]
        options = replace(engine.options, ports=(first, first + 3))
        left = engine.spec(gpus=())
        engine.api.post("/networks/create", network_request(options, left.name, first))
        cluster = EngineCluster(engine.api, engine.nodes, options)
        others = [cluster.create_box(spec) for spec in (engine.spec(gpus=()), engine.spec(gpus=()))]
        assert first not in [box.ports[SSH] for box in others]
