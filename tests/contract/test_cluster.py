"""The contract of the cluster, held by every adapter."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.boxes import end_box
from tests.builders import a_node
from tests.cluster.layout import Layout
from tests.contract.cluster_stages import EngineStage, KubernetesStage, MemoryStage, Stage
from tests.engine import Engine, private_engine
from tests.pods import PodCloud, pod_cloud
from tests.waiting import eventually

from odc.adapters.memory.cluster import MemoryCluster
from odc.domain.box import JUPYTER, SSH, BoxName, BoxSeen, BoxSpec, BoxState, StartPhase
from odc.domain.box_report import HomeState, ServerState
from odc.domain.errors import PlaceTaken, ProviderRefused, ProviderUnavailable

ADAPTERS = [
    "memory",
    pytest.param("podman", marks=pytest.mark.podman),
    pytest.param("kubernetes", marks=pytest.mark.kubernetes),
]
GRACE = timedelta(seconds=1)
LONG_GRACE = timedelta(seconds=50)
GONE_UID = "deadbeef" * 8


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; the line for a list of keys is next to it."""
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine(simulate="h100=1x4") as made:
        yield made


@pytest.fixture(scope="module")
def pods(cluster: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodCloud]:
    with pod_cloud(cluster, tmp_path_factory.mktemp("pods")) as made:
        yield made


@pytest.fixture(params=ADAPTERS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "memory":
        yield MemoryStage(MemoryCluster([a_node(units=4)], images=["box"]))
        return
    if request.param == "kubernetes":
        cloud: PodCloud = request.getfixturevalue("pods")
        yield KubernetesStage(cloud)
        cloud.forget_everything()
        return
    engine: Engine = request.getfixturevalue("engine")
    yield EngineStage(engine)
    engine.forget_everything()


def seen(stage: Stage, name: BoxName) -> BoxSeen | None:
    return next((box for box in stage.cluster.list_boxes() if box.name == name), None)


def answers(stage: Stage, spec: BoxSpec) -> None:
    box = seen(stage, spec.name)
    assert box is not None
    eventually("SSH answers", lambda: stage.cluster.ssh_answers(box))


def test_a_box_is_made_started_answers_and_is_removed(stage: Stage) -> None:
    spec = stage.spec()
    made = stage.cluster.create_box(spec)
    listed = seen(stage, spec.name)
    assert listed is not None
    assert listed == replace(made, memory_kills=listed.memory_kills)
    assert (made.state, made.exit_code) == (BoxState.CREATED, None)
    stage.cluster.start_box(spec.name, made.uid)
    answers(stage, spec)
    running = seen(stage, spec.name)
    assert running is not None
    assert running.memory_kills is not None
    assert running.memory_kills.count == 0
    assert running == replace(made, state=BoxState.RUNNING, memory_kills=running.memory_kills, report=running.report)
    assert running.node == spec.node
    assert (running.gpu_type, running.gpus, running.units) == (spec.gpu_type, spec.gpus, spec.units)
    end_box(stage.cluster, spec.name, made.uid, GRACE)
    assert seen(stage, spec.name) is None
    stage.cluster.clean_up(spec.name.reservation_id, spec.name.attempt)


def test_a_running_box_applies_changed_keys(stage: Stage, key: Path) -> None:
    line = key.with_suffix(".pub").read_text()
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)
    stage.cluster.write_files(spec.name, {"authorized_keys": line.encode()})
    eventually("one key is in effect", lambda: stage.keys_in_effect(spec.name, key) == 1)
    stage.cluster.write_files(spec.name, {"authorized_keys": (line + line).encode()})
    eventually("two keys are in effect", lambda: stage.keys_in_effect(spec.name, key) == 2)


def test_a_running_box_reports_on_itself_where_the_cluster_can_read_it(stage: Stage) -> None:
    spec = stage.spec()
    made = stage.cluster.create_box(spec)
    assert made.report is None
    stage.cluster.start_box(spec.name, made.uid)
    answers(stage, spec)
    if stage.reads_reports:
        report = eventually("it reports", lambda: (box := seen(stage, spec.name)) and box.report)
        assert (report.sshd, report.home) == (ServerState.RUNNING, HomeState.READY)
    stage.end_by_itself(spec.name)
    stopped = seen(stage, spec.name)
    assert stopped is not None
    assert stopped.report is None


def test_every_step_may_run_twice(stage: Stage) -> None:
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid
    assert stage.cluster.create_box(spec).uid == uid
    for _ in range(2):
        stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)
    for _ in range(2):
        stage.cluster.write_files(spec.name, spec.files)
    end_box(stage.cluster, spec.name, uid, GRACE)
    assert stage.cluster.end_box(spec.name, uid, GRACE)
    for _ in range(2):
        stage.cluster.clean_up(spec.name.reservation_id, 1)
    assert stage.cluster.list_boxes() == ()


def test_a_start_says_what_it_waits_for_until_the_box_runs(stage: Stage) -> None:
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid

    def phase() -> StartPhase | None:
        wait = stage.cluster.start_box(spec.name, uid)
        return wait.phase if wait else None

    with stage.image_not_there() as wait:
        # A scheduler may have to come to it first.
        eventually("it waits for the image", lambda: phase() is wait)
        assert phase() is wait
        box = seen(stage, spec.name)
        assert box is not None
        assert box.state is (BoxState.CREATED if wait else BoxState.RUNNING)
        assert wait is None or not stage.cluster.ssh_answers(box)
    eventually("the box runs", lambda: stage.cluster.start_box(spec.name, uid) is None)
    answers(stage, spec)
    with stage.image_not_there():
        assert stage.cluster.start_box(spec.name, uid) is None
    end_box(stage.cluster, spec.name, uid)
    with stage.image_not_there():
        waiting = stage.cluster.create_box(spec)
        stage.cluster.start_box(spec.name, waiting.uid)
        end_box(stage.cluster, spec.name, waiting.uid)
    assert seen(stage, spec.name) is None


def test_the_request_to_end_returns_at_once_and_the_box_ends_within_its_grace(stage: Stage) -> None:
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)
    begun = time.monotonic()
    stage.cluster.end_box(spec.name, uid, LONG_GRACE)
    # "Within a second" on a machine that does nothing else.
    assert time.monotonic() - begun < LONG_GRACE.total_seconds() / 10
    end_box(stage.cluster, spec.name, uid, LONG_GRACE)
    assert time.monotonic() - begun < LONG_GRACE.total_seconds()
    assert seen(stage, spec.name) is None


def test_boxes_are_listed_by_name(stage: Stage) -> None:
    specs = [stage.spec() for _ in range(3)]
    for spec in specs:
        stage.cluster.create_box(spec)
    assert [box.name for box in stage.cluster.list_boxes()] == sorted(spec.name for spec in specs)


def test_another_uid_is_another_box_and_hits_nothing(stage: Stage) -> None:
    spec, other = stage.spec(), stage.spec()
    uid, other_uid = (stage.cluster.create_box(one).uid for one in (spec, other))
    for wrong in (GONE_UID, other_uid):
        with pytest.raises(ProviderRefused):
            stage.cluster.start_box(spec.name, wrong)
        assert stage.cluster.end_box(spec.name, wrong, timedelta(0))
    assert {box.uid: box.state for box in stage.cluster.list_boxes()} == {
        uid: BoxState.CREATED,
        other_uid: BoxState.CREATED,
    }


def test_a_box_that_is_made_again_has_another_uid(stage: Stage) -> None:
    spec = stage.spec()
    first = stage.cluster.create_box(spec).uid
    end_box(stage.cluster, spec.name, first)
    second = stage.cluster.create_box(spec).uid
    assert second != first
    end_box(stage.cluster, spec.name, first)
    box = seen(stage, spec.name)
    assert box is not None
    assert box.uid == second


def test_a_box_deleted_by_hand_is_not_listed_and_refuses_to_answer(stage: Stage) -> None:
    spec = stage.spec()
    box = stage.cluster.create_box(spec)
    uid = box.uid
    stage.cluster.start_box(spec.name, uid)
    stage.delete_by_hand(spec.name)
    assert stage.cluster.list_boxes() == ()
    with pytest.raises(ProviderRefused, match="not there"):
        stage.cluster.ssh_answers(box)
    with pytest.raises(ProviderRefused, match="not there"):
        stage.cluster.start_box(spec.name, uid)
    assert stage.cluster.end_box(spec.name, uid, GRACE)
    stage.cluster.clean_up(spec.name.reservation_id, 1)


def test_a_box_that_ended_says_so_and_can_be_started_again(stage: Stage) -> None:
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)
    stage.end_by_itself(spec.name)
    box = seen(stage, spec.name)
    assert box is not None
    assert (box.state, box.exit_code) == (BoxState.EXITED, 0)
    assert box.message
    if stage.starts_again:
        assert not stage.cluster.ssh_answers(box)
    else:
        with pytest.raises(ProviderRefused, match="the box ended with 0"):
            stage.cluster.ssh_answers(box)
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)


def test_an_image_that_does_not_exist_is_refused(stage: Stage) -> None:
    with stage.unknown_image() as image, pytest.raises(ProviderRefused, match="image not known"):
        spec = stage.spec(image=image)
        uid = stage.cluster.create_box(spec).uid
        # Where only the node can know it.
        eventually("it runs", lambda: stage.cluster.start_box(spec.name, uid) is None)


def test_a_box_has_ports_by_name_that_no_other_box_has_and_keeps_them(stage: Stage) -> None:
    specs = [stage.spec(), stage.spec(), stage.spec(ports={SSH: 22})]
    made = [stage.cluster.create_box(spec) for spec in specs]
    assert [list(box.ports) for box in made] == [[SSH, JUPYTER], [SSH, JUPYTER], [SSH]]
    assert len({port for box in made for port in box.ports.values()}) == 5
    assert all(box.container and box.delete_command.endswith(box.container) for box in made)
    node = next(node for node in stage.cluster.list_nodes() if node.name == specs[0].node)
    assert {box.address for box in made} == {node.address}
    stage.cluster.start_box(specs[0].name, made[0].uid)
    answers(stage, specs[0])
    cold = stage.another_process()
    for spec, box in zip(specs, made, strict=True):
        assert cold.create_box(spec).ports == box.ports
        (listed,) = (other for other in cold.list_boxes() if other.name == spec.name)
        assert (listed.ports, listed.delete_command) == (box.ports, box.delete_command)
    assert not {port for box in made for port in box.ports.values()} & set(cold.create_box(stage.spec()).ports.values())


def test_a_box_without_known_gpus_is_counted_by_its_units_and_names_none(stage: Stage) -> None:
    spec = stage.spec(gpus=(), units=2)
    made = stage.cluster.create_box(spec)
    (box,) = stage.cluster.list_boxes()
    for found in (made, box):
        assert (found.gpus, found.units) == ((), 2)


def test_a_box_whose_port_was_taken_is_made_again_with_others(stage: Stage) -> None:
    spec = stage.spec()
    box = stage.cluster.create_box(spec)
    with stage.port_taken(box.ports[JUPYTER]):
        with pytest.raises(PlaceTaken):
            stage.cluster.start_box(spec.name, box.uid)
        end_box(stage.cluster, spec.name, box.uid)
        again = stage.cluster.create_box(spec)
        assert box.ports[JUPYTER] not in again.ports.values()
        stage.cluster.start_box(spec.name, again.uid)
        answers(stage, spec)


def test_cleaning_up_an_early_attempt_leaves_the_later_one(stage: Stage) -> None:
    first = stage.spec()
    second = stage.spec(reservation_id=first.name.reservation_id, attempt=2)
    old = stage.cluster.create_box(first).uid
    uid = stage.cluster.create_box(second).uid
    stage.cluster.start_box(second.name, uid)
    assert stage.cluster.list_remains() == ((first.name.reservation_id, 1), (second.name.reservation_id, 2))
    end_box(stage.cluster, first.name, old)
    stage.cluster.clean_up(first.name.reservation_id, 1)
    assert stage.cluster.list_remains() == ((second.name.reservation_id, 2),)
    stage.cluster.write_files(second.name, second.files)
    answers(stage, second)


def test_files_of_a_box_that_is_not_there_are_no_error(stage: Stage) -> None:
    stage.cluster.write_files(BoxName(uuid.uuid4().hex, 1), {"name": b"x\n"})


def test_what_does_not_answer_is_unavailable_and_comes_back_whole(stage: Stage) -> None:
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)
    stage.break_down()
    try:
        for call in (
            stage.cluster.list_boxes,
            lambda: stage.cluster.create_box(spec),
            lambda: stage.cluster.start_box(spec.name, uid),
            lambda: stage.cluster.end_box(spec.name, uid, GRACE),
            lambda: stage.cluster.clean_up(spec.name.reservation_id, 1),
        ):
            with pytest.raises(ProviderUnavailable):
                call()
    finally:
        stage.repair()
    box = seen(stage, spec.name)
    assert box is not None
    assert (box.uid, box.state) == (uid, BoxState.RUNNING)
    answers(stage, spec)


def test_nodes_are_listed_by_name(stage: Stage) -> None:
    nodes = stage.cluster.list_nodes()
    assert [node.name for node in nodes] == sorted(node.name for node in nodes)
    assert all(node.ready for node in nodes)
