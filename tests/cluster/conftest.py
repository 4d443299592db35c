"""Fixtures of the tests that use the test cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster import api, archive, disks, lifecycle, node
from tests.cluster.layout import Layout, default_number
from tests.pods import PodCloud, pod_cloud
from tests.waiting import eventually

SHELL_IMAGE = "odc.test/shell:1"
GROUPS = {"volumesnapshots": "apis/snapshot.storage.k8s.io/v1"}
"""The path of kinds that are not of the core group."""


@dataclass(frozen=True)
class Namespace:
    """A namespace of one module, with short ways to what is in it."""

    layout: Layout
    name: str

    def create(self, kind: str, body: dict[str, Any]) -> Any:
        """Create an object; the kind is the plural of the URL."""
        return api.request(self.layout, self._path(kind), "POST", body)

    def get(self, kind: str, name: str) -> Any:
        return api.request(self.layout, f"{self._path(kind)}/{name}")

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and wait until it is gone."""
        path = f"{self._path(kind)}/{name}"
        api.request(self.layout, path, "DELETE")
        eventually(f"{kind}/{name} is gone", lambda: not api.exists(self.layout, path))

    def log(self, pod: str) -> str:
        return str(api.request(self.layout, f"{self._path('pods')}/{pod}/log"))

    def wait_for_phase(self, pod: str, phase: str) -> Any:
        """The pod in this phase. One that has ended in another phase fails at once, with its log."""

        def found() -> Any:
            now = self.get("pods", pod)
            reached = now["status"].get("phase")
            ended = reached in ("Succeeded", "Failed")
            assert reached == phase or not ended, f"{pod} is {reached}: {now['status']}\n{self.log(pod)}"
            return reached == phase and now

        return eventually(f"pod {pod} is {phase}", found)

    def _path(self, kind: str) -> str:
        return f"/{GROUPS.get(kind, 'api/v1')}/namespaces/{self.name}/{kind}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Layout]:
    """The cluster of this checkout: the one that runs, or one that is stopped after the run."""
    layout = Layout(default_number())
    running = lifecycle.is_up(layout)
    if not running:
        lifecycle.up(layout)
    # A test that was killed may have left faults.
    disks.set_faults(layout, {})
    disks.start(layout)
    path = layout.state / "shell.tar"
    archive.shell_image(path, SHELL_IMAGE)
    for each in layout.nodes:
        node.load_image(each, path)
    yield layout
    if not running:
        lifecycle.down(layout)


@pytest.fixture(scope="module")
def namespace(cluster: Layout) -> Iterator[Namespace]:
    """A new namespace, deleted with everything in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.request(cluster, "/api/v1/namespaces", "POST", {"metadata": {"name": name}})
    made = Namespace(cluster, name)
    # Pods are refused before the controllers have created it.
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    eventually("the namespace has its service account", lambda: api.exists(cluster, account))
    yield made
    api.request(cluster, f"/api/v1/namespaces/{name}", "DELETE")
    eventually(f"namespace {name} is gone", lambda: not api.exists(cluster, f"/api/v1/namespaces/{name}"))


@pytest.fixture(scope="module")
def cloud(cluster: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodCloud]:
    """A cloud for one module."""
    with pod_cloud(cluster, tmp_path_factory.mktemp("pods")) as made:
        yield made


@pytest.fixture
def pods(cloud: PodCloud) -> Iterator[PodCloud]:
    """The module's cloud, without boxes."""
    yield cloud
    cloud.forget_everything()
