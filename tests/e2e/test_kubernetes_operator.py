"""What an operator of a cloud on Kubernetes types: up, doctor, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import api
from tests.cluster.layout import Layout
from tests.e2e.cloud import Cloud, destroy, make_cloud
from tests.e2e.cluster_cloud import ClusterCloud, cluster_cloud

pytestmark = [pytest.mark.kubernetes]


@pytest.fixture(scope="module")
def running(bin_folder: Path, cluster: Layout) -> Iterator[ClusterCloud]:
    with cluster_cloud(bin_folder, cluster, number=1, limits={"grace_s": 2}) as made:
        yield made


@pytest.fixture
def fresh(bin_folder: Path) -> Iterator[Cloud]:
    """A cloud that was never up."""
    made = make_cloud(bin_folder, number=2, simulate="", namespace="missing")
    yield made
    destroy(made)


def up(cloud: Cloud, layout: Layout, *options: str) -> Any:
    return cloud.odc("up", "--kubernetes", *options, check=False, KUBECONFIG=str(layout.kubeconfig))


def test_doctor_looks_at_the_cluster(running: ClusterCloud) -> None:
    told = running.odc("doctor").out
    for subject in ("API server", "namespace", "rights", "pods", "disks", "image"):
        assert f"ok    {subject}" in told
    assert "keep it for boxes: kubectl --context test taint node node-1 odc.dev/dedicated=:NoSchedule" in told


def test_the_cluster_is_written_to_the_settings_and_stays(running: ClusterCloud, cluster: Layout) -> None:
    settings = running.config.read_text()
    assert f'kubeconfig = "{running.folder}/kubeconfig"' in settings
    assert 'context = "test"' in settings
    assert "It is up already" in running.odc("up").out
    moved = up(running, cluster, "--namespace", "another")
    assert moved.code == 2
    assert f"the boxes and disks of this cloud are in namespace {running.name} of context test" in moved.err
    assert running.config.read_text() == settings


def test_a_start_that_cannot_succeed_says_why_and_changes_nothing(fresh: Cloud, cluster: Layout) -> None:
    before = fresh.config.read_text()
    refused = {
        (): "kubectl --context test create namespace missing",
        ("--context", "nowhere"): f"kubectl --kubeconfig {cluster.kubeconfig} config get-contexts",
        ("--simulate", "h100=1x8"): "simulate and context exclude each other",
    }
    for options, told in refused.items():
        done = up(fresh, cluster, *options)
        assert (done.code, done.out) != (0, ""), options
        assert told in done.err, options
    assert "--context and --namespace need --kubernetes" in fresh.odc("up", "--context", "test", check=False).err
    assert fresh.config.read_text() == before


def test_down_all_leaves_the_namespace_and_nothing_in_it(running: ClusterCloud, cluster: Layout) -> None:
    running.odc("down", "--all", "--yes")
    assert not running.boxes()
    assert not running.networks()
    assert api.exists(cluster, f"/api/v1/namespaces/{running.name}")
    running.odc("up")
