"""The contract of the cluster, held by every adapter."""

from __future__ import annotations

import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import pytest
from msgspec.structs import replace
from tests.boxes import end_box
from tests.builders import a_node
from tests.engine import Engine, private_engine
from tests.waiting import eventually

from odc.adapters.engine.cluster import EngineCluster
from odc.adapters.memory.cluster import MemoryCluster
from odc.domain.box import JUPYTER, SSH, BoxName, BoxSeen, BoxSpec, BoxState, StartPhase, StartWait
from odc.domain.box_report import HomeState, ServerState
from odc.domain.errors import PlaceTaken, ProviderRefused, ProviderUnavailable
from odc.domain.resources import share_of
from odc.ports.cluster import Cluster

ADAPTERS = ["memory", pytest.param("podman", marks=pytest.mark.podman)]
GRACE = timedelta(seconds=1)
LONG_GRACE = timedelta(seconds=50)
GONE_UID = "deadbeef" * 8


class Stage(Protocol):
    """A cluster, and the accidents that a test plays on it."""

    @property
    def cluster(self) -> Cluster:
        """The cluster."""

    def spec(self, **changes: Any) -> BoxSpec:
        """A box that can be made."""

    def delete_by_hand(self, name: BoxName) -> None:
        """Someone deletes the box behind the cluster's back."""

    def end_by_itself(self, name: BoxName) -> None:
        """The box's first process ends."""

    def break_down(self) -> None:
        """Nothing answers any more."""

    def repair(self) -> None:
        """It answers again."""

    def another_process(self) -> Cluster:
        """The same cluster, without what this process has in memory."""

    def port_taken(self, port: int) -> AbstractContextManager[object]:
        """Another program has this port."""

    def image_not_there(self) -> AbstractContextManager[StartWait | None]:
        """Nodes have to fetch the image first; what a start says then. None: a node always has it."""


@dataclass
class MemoryStage:
    """The cluster in memory."""

    cluster: MemoryCluster

    def spec(self, **changes: Any) -> BoxSpec:
        (node,) = self.cluster.list_nodes()
        rank, attempt = changes.pop("rank", 0), changes.pop("attempt", 1)
        defaults: dict[str, Any] = {
            "name": BoxName(changes.pop("reservation_id", uuid.uuid4().hex), attempt, rank),
            "node": node.name,
            "image": "box",
            "hostname": "train",
            "gpus": node.gpus[:1],
            "gpu_type": node.gpu_type,
            "units": 1,
            "resources": share_of(node.allocatable, 1, node.units),
            "files": {"name": b"train\n"},
        }
        return BoxSpec(**(defaults | changes))

    def delete_by_hand(self, name: BoxName) -> None:
        self.cluster.vanish(name)

    def end_by_itself(self, name: BoxName) -> None:
        self.cluster.exit_box(name, 0, "its first process ended")

    def break_down(self) -> None:
        self.cluster.go_down()

    def repair(self) -> None:
        self.cluster.heal()

    def another_process(self) -> Cluster:
        return self.cluster

    @contextmanager
    def port_taken(self, port: int) -> Iterator[None]:
        self.cluster.strangers.add(port)
        yield
        self.cluster.strangers.remove(port)

    @contextmanager
    def image_not_there(self) -> Iterator[StartWait]:
        self.cluster.start_wait = StartWait(StartPhase.IMAGE, "the node fetches the image")
        yield self.cluster.start_wait
        self.cluster.start_wait = None


@dataclass
class EngineStage:
    """The cluster on Podman."""

    engine: Engine

    @property
    def cluster(self) -> Cluster:
        return self.engine.cluster

    def spec(self, **changes: Any) -> BoxSpec:
        return self.engine.spec(**changes)

    def _container(self, name: BoxName) -> str:
        return f"odc-{self.engine.cloud}-{name}"

    def delete_by_hand(self, name: BoxName) -> None:
        self.engine.podman("rm", "-f", "-t", "0", self._container(name), check=False)

    def end_by_itself(self, name: BoxName) -> None:
        self.engine.podman("stop", "-t", "10", self._container(name))

    def break_down(self) -> None:
        self.engine.kill_service()

    def repair(self) -> None:
        self.engine.start_service()

    def another_process(self) -> Cluster:
        return EngineCluster(self.engine.api, self.engine.nodes, self.engine.options)

    def port_taken(self, port: int) -> AbstractContextManager[object]:
        return socket.create_server(("127.0.0.1", port))

    def image_not_there(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A line for a list of keys."""
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with private_engine(simulate="h100=1x4") as made:
        yield made


@pytest.fixture(params=ADAPTERS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param == "memory":
        cluster = MemoryCluster([a_node(units=4)], images=["box"])
        yield MemoryStage(cluster)
        return
    engine: Engine = request.getfixturevalue("engine")
    yield EngineStage(engine)
    engine.forget_everything()


def seen(stage: Stage, name: BoxName) -> BoxSeen | None:
    return next((box for box in stage.cluster.list_boxes() if box.name == name), None)


def keys_in_effect(stage: Stage, name: BoxName) -> int | None:
    box = seen(stage, name)
    return box.report.keys if box and box.report else None


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


def test_a_running_box_reports_on_itself_and_applies_changed_keys(stage: Stage, key: str) -> None:
    spec = stage.spec()
    uid = stage.cluster.create_box(spec).uid
    made = seen(stage, spec.name)
    assert made is not None
    assert made.report is None
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)
    stage.cluster.write_files(spec.name, {"authorized_keys": key.encode()})
    eventually("one key is in effect", lambda: keys_in_effect(stage, spec.name) == 1)
    stage.cluster.write_files(spec.name, {"authorized_keys": (key + key).encode()})
    eventually("two keys are in effect", lambda: keys_in_effect(stage, spec.name) == 2)
    running = seen(stage, spec.name)
    assert running is not None
    assert running.report is not None
    assert (running.report.sshd, running.report.home) == (ServerState.RUNNING, HomeState.READY)
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
    with stage.image_not_there() as wait:
        for _ in range(2):
            assert stage.cluster.start_box(spec.name, uid) == wait
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
    with pytest.raises(ProviderRefused, match="the box ended with 0"):
        stage.cluster.ssh_answers(box)
    stage.cluster.start_box(spec.name, uid)
    answers(stage, spec)


def test_an_image_that_does_not_exist_is_refused_at_once(stage: Stage) -> None:
    with pytest.raises(ProviderRefused, match="image not known"):
        stage.cluster.create_box(stage.spec(image="localhost/odceng/none:1"))


def test_a_box_has_ports_by_name_that_no_other_box_has_and_keeps_them(stage: Stage) -> None:
    specs = [stage.spec(), stage.spec(), stage.spec(ports={SSH: 22})]
    made = [stage.cluster.create_box(spec) for spec in specs]
    assert [list(box.ports) for box in made] == [[SSH, JUPYTER], [SSH, JUPYTER], [SSH]]
    assert len({port for box in made for port in box.ports.values()}) == 5
    assert all(box.container and box.delete_command.endswith(box.container) for box in made)
    (node,) = stage.cluster.list_nodes()
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
    end_box(stage.cluster, first.name, old)
    assert stage.cluster.list_remains() == ((first.name.reservation_id, 1), (second.name.reservation_id, 2))
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
