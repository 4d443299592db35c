"""One cloud for the whole run, and people who use it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import cluster
from tests.e2e.cloud import Cloud, Person, add_person, destroy, make_cloud
from tests.e2e.cluster_cloud import cluster_cloud
from tests.e2e.evidence import log_sizes, sections
from tests.e2e.installed import installed_bin
from tests.github_server import GitHub, serve_github
from tests.image import ensure_image
from tests.lane import lane_name
from tests.waiting import eventually

__all__ = ["cluster"]

LOG_SIZES = pytest.StashKey[dict[Path, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[LOG_SIZES] = log_sizes()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the clouds did during a test that failed."""
    report = yield
    if report.failed:
        report.sections.extend(sections(item.stash.get(LOG_SIZES, {})))
    return report


@pytest.fixture(scope="session")
def bin_folder() -> Path:
    """The installed commands, with the image of this checkout for the boxes that they start."""
    ensure_image()
    return installed_bin()


@pytest.fixture(scope="session")
def github() -> Iterator[GitHub]:
    """What the cloud takes for GitHub."""
    with serve_github() as made:
        yield made


DEPLOYMENTS = ["machine", pytest.param("kubernetes", marks=pytest.mark.kubernetes)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on the machine's cloud; one that is marked, on a cluster's too."""
    if "cloud" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("deployments") is not None
        metafunc.parametrize("cloud", DEPLOYMENTS if both else DEPLOYMENTS[:1], indirect=True, scope="session")


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest, bin_folder: Path, github: GitHub) -> Iterator[Cloud]:
    """A cloud that is up, with short limits; its boxes run on the deployment of the parameter."""
    limits = {"missing_s": 1, "grace_s": 5}
    keys: dict[str, Any] = {"github": github.address, "github_api": github.address, "limits": limits}
    if request.param == "kubernetes":
        layout = request.getfixturevalue("cluster")
        with cluster_cloud(bin_folder, layout, **keys) as on_cluster:
            yield on_cluster
        return
    made = make_cloud(bin_folder, **keys)
    try:
        made.odc("up")
        yield made
    finally:
        destroy(made)


@pytest.fixture(scope="session")
def ada(cloud: Cloud) -> Person:
    """A developer with a key."""
    person = add_person(cloud, "a")
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return person


@pytest.fixture(scope="session")
def ben(cloud: Cloud) -> Person:
    """Another one."""
    person = add_person(cloud, "b")
    person.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    return person


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no reservation, container, network or mount of it is left."""
    yield
    if "cloud" not in request.fixturenames:
        return
    shared: Cloud = request.getfixturevalue("cloud")
    for person in shared.people:
        person.gpu_dev("cancel", "--all", "--yes")
    for person in shared.people:
        for view in person.json("list")["reservations"]:
            person.gpu_dev("wait", view["id"])
    eventually("every box is gone", lambda: not shared.boxes())
    eventually("every network is gone", lambda: not shared.networks())
    eventually("every bridge is gone", lambda: not shared.links())
    eventually("every mount is gone", lambda: not shared.mounts())


@pytest.fixture(scope="session")
def spare_cloud(bin_folder: Path, github: GitHub) -> Iterator[Cloud]:
    """A cloud beside the shared one, which tests may stop, empty and restore; it is not up yet."""
    keys = {"github": github.address, "github_api": github.address}
    olga = f"odc-{lane_name('e2e', 2)}-o"
    made = make_cloud(bin_folder, number=2, limits={"missing_s": 1, "grace_s": 2}, admins=[olga], **keys)
    try:
        yield made
    finally:
        destroy(made)


@pytest.fixture
def spare(spare_cloud: Cloud) -> Iterator[Cloud]:
    """That cloud, up; after the test nothing of its boxes is left."""
    spare_cloud.odc("up")
    yield spare_cloud
    if not spare_cloud.is_ready() or spare_cloud.boxes():
        spare_cloud.odc("down", "--all", "--yes")


@pytest.fixture(scope="session")
def dora(spare_cloud: Cloud) -> Person:
    """A developer of the spare cloud."""
    return add_person(spare_cloud, "d")


@pytest.fixture(scope="session")
def olga(spare_cloud: Cloud) -> Person:
    """A Unix user who may operate the spare cloud."""
    return add_person(spare_cloud, "o")
