"""What someone else deletes of a running box comes back, and what cannot come back as it was is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.cluster import api
from tests.pods import PodCloud
from tests.waiting import eventually

from odc.adapters.kubernetes.cluster import KubernetesCluster
from odc.domain.box import JUPYTER, SSH, BoxSeen
from odc.domain.host import HostReport
from odc.domain.problem_text import problem_text

pytestmark = pytest.mark.kubernetes


def delete(pods: PodCloud, kind: str, name: str) -> None:
    path = pods.api.path(kind, name)
    pods.ask(path, "DELETE")
    eventually("it is deleted", lambda: not api.exists(pods.layout, path))


def check(pods: PodCloud, box: BoxSeen) -> HostReport:
    """A check by a process that has just started."""
    return KubernetesCluster(pods.api, pods.options).check_host([box])


@contextmanager
def port_of_a_stranger(pods: PodCloud, port: int) -> Iterator[None]:
    ports = [{"port": 80, "nodePort": port}]
    body = {"metadata": {"name": "stranger"}, "spec": {"type": "NodePort", "ports": ports}}
    pods.ask(pods.api.path("services"), "POST", body)
    yield
    delete(pods, "services", "stranger")


def test_a_deleted_service_is_made_again_with_the_same_ports(pods: PodCloud) -> None:
    box = pods.start(pods.spec())
    assert check(pods, box).repaired == ()
    delete(pods, "services", box.container)
    eventually("SSH is cut off", lambda: pods.ssh(box, "true").returncode != 0)
    (repair,) = check(pods, box).repaired
    assert problem_text(repair).startswith(f"{box.container}: someone else had deleted or changed")
    assert pods.box(box.name).ports == box.ports
    eventually("SSH is back", lambda: pods.ssh(box, "true").returncode == 0)
    assert check(pods, box).repaired == ()


def test_a_service_whose_port_was_taken_gets_another_one_that_the_next_list_shows(pods: PodCloud) -> None:
    box = pods.start(pods.spec())
    delete(pods, "services", box.container)
    with port_of_a_stranger(pods, box.ports[SSH]):
        (repair,) = check(pods, box).repaired
        now = pods.box(box.name)
        assert now.ports.keys() == {SSH, JUPYTER}
        assert now.ports[SSH] != box.ports[SSH]
        assert f"ssh={now.ports[SSH]}" in repair.detail
        eventually("SSH is back", lambda: pods.ssh(now, "true").returncode == 0)
        assert check(pods, now).repaired == ()


def test_a_deleted_secret_is_named_and_made_again_with_the_next_files(pods: PodCloud) -> None:
    box = pods.start(pods.spec())
    delete(pods, "secrets", box.container)
    assert check(pods, box).files_lost == {box.uid}
    pods.cluster.write_files(box.name, pods.files())
    assert check(pods, box).files_lost == frozenset()
    # The container starts with what the Secret has now.
    pods.kill(box, "SIGTERM")
    eventually("it has started again", lambda: pods.pod(box)["status"]["containerStatuses"][0]["restartCount"] == 1)
    eventually("SSH is back", lambda: pods.ssh(box, "true").returncode == 0)
