"""The tests' own check of what a run leaves behind: what is a run's and what is somebody else's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.lane import RUN_VARIABLE
from tests.remains import Owner, Remain, is_quiet, started_by

OURS = Owner(run="0123", folder="/var/tmp/pytest-of-root/pytest-1", lanes=(3, 13))


@pytest.mark.parametrize(
    "remain",
    [
        Remain("container", "94fc", "odc-e2e-t030-94fc4ddc79a0-1-0"),
        Remain("user", "odc-e2e-t132-a", "odc-e2e-t132-a"),
        Remain("user", "odc-e2e-t132x-a", "odc-e2e-t132x-a"),
        Remain("file", "/etc/cdi/f", "/etc/cdi/odc-engine-t0394fc4d-simulated.json"),
        Remain(
            "file",
            "/root/.gpu-dev/list.json",
            'list.json {"endpoint":"unix:///var/tmp/odc-e2e-t132-q_khxlut/odc.sock"}',
        ),
        Remain("process", "1", "odc --config /var/tmp/odc-e2e-t030-abcdefgh/odc.toml serve"),
        Remain("mount", "/m", "/var/tmp/pytest-of-root/pytest-1/test0/disks /"),
        Remain("loop device", "/dev/loop0", "/var/tmp/pytest-of-root/pytest-1/test0/disks.btrfs (deleted)"),
        Remain("rule", "-t nat -D x", "-A POSTROUTING -s 10.93.128.0/28 -j NETAVARK-14D674D9264FE"),
        Remain("address", "podman1", "10.129.32.1/28"),
        Remain("Kubernetes cluster", "3", "/var/tmp/odc-cluster-3 0123"),
    ],
    ids=str,
)
def test_what_carries_a_name_a_folder_or_an_address_of_a_run_is_its_own(remain: Remain) -> None:
    assert OURS.has(remain)


@pytest.mark.parametrize(
    "remain",
    [
        Remain("container", "94fc", "odc-lab-94fc4ddc79a0-1-0"),
        Remain("container", "94fc", "odc-e2e-t040-94fc4ddc79a0-1-0"),
        Remain("file", "/var/tmp/f", "/var/tmp/odc-e2e-t040-t03a_bcd"),
        Remain("user", "odc-t030", "odc-t030team"),
        Remain("mount", "/m", "/var/tmp/pytest-of-root/pytest-12/test0/disks /"),
        Remain("mount", "/m", "/mnt/10.93.128.0 /"),
        Remain("rule", "-t nat -D x", "-A POSTROUTING -s 10.94.0.0/28 -j NETAVARK-14D674D9264FE"),
        Remain("link", "eth0", "eth0"),
        Remain("Kubernetes cluster", "3", "/var/tmp/odc-cluster-3 01234"),
        Remain("Kubernetes cluster", "3", "/var/tmp/odc-cluster-3"),
    ],
    ids=str,
)
def test_what_is_another_lane_s_or_nobody_s_is_not(remain: Remain) -> None:
    assert not OURS.has(remain)


def test_an_address_alone_names_nobody() -> None:
    assert not OURS.is_named_by(Remain("address", "eth0", "10.93.128.7/24"))


def test_a_machine_with_another_run_or_a_cloud_is_not_quiet() -> None:
    assert is_quiet([Remain("container", "1", "odc-e2e-t030-1"), Remain("link", "eth0", "eth0")], OURS)
    assert not is_quiet([Remain("process", "1", "odc serve /var/tmp/odc-e2e-t050-abcdefgh")], OURS)
    assert not is_quiet([Remain("container", "1", "database")], OURS)
    assert not is_quiet([Remain("Kubernetes cluster", "3", "/var/tmp/odc-cluster-3")], OURS)
    assert not is_quiet([Remain("file", "/run/odc/clouds/1.json", '/run/odc/clouds/1.json {"cloud": "lab"}')], OURS)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of a run, of which only its environment says so."""
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, env={RUN_VARIABLE: "0123"}, stdin=subprocess.PIPE) as made:
        yield made
        made.kill()


def test_a_process_is_a_run_s_by_its_environment(process: subprocess.Popen[bytes]) -> None:
    pid = str(process.pid)
    assert pid in started_by("0123")
    assert OURS.has(Remain("process", pid, "input"))
    assert pid not in started_by("012")
