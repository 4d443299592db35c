"""A GPU falls off the bus under a cloud that lends it: NVIDIA's library is the tests' own, everything else is real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Person, add_person, destroy, make_cloud
from tests.nvml import LOST, Nvml, build_nvml, gpu, uuid
from tests.own_machine import CloudOfItsOwn, OwnMachine, own_machine
from tests.waiting import eventually

pytestmark = [
    pytest.mark.podman,
    pytest.mark.btrfs,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
DESCRIPTION = "/etc/cdi/nvidia.json"


def describe(machine: OwnMachine, *numbers: int) -> None:
    """What `nvidia-ctk cdi generate` does, for these GPUs."""
    devices = [
        {
            "name": uuid(number),
            "containerEdits": {
                "mounts": [{"hostPath": "/dev/null", "containerPath": f"/dev/nvidia{number}", "options": ["bind"]}]
            },
        }
        for number in numbers
    ]
    text = json.dumps({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": devices})
    machine.run("bash", "-c", f"cat > {DESCRIPTION} <<'TEXT'\n{text}\nTEXT")


@pytest.fixture
def nvml(tmp_path: Path) -> Nvml:
    return build_nvml(tmp_path / "nvml")


@pytest.fixture
def lending(bin_folder: Path, nvml: Nvml) -> Iterator[CloudOfItsOwn]:
    """A cloud that lends two GPUs of a machine of its own."""
    with own_machine() as machine:
        plain = make_cloud(bin_folder, name="gpu", number=1, simulate="", limits={"missing_s": 1, "grace_s": 2})
        made = CloudOfItsOwn(**{name: getattr(plain, name) for name in vars(plain)}, machine=machine)
        describe(machine, 0, 1)
        try:
            made.odc("up", **nvml.environment)
            yield made
        finally:
            destroy(made)


def asks(person: Person, name: str) -> None:
    person.ok("reserve", "-t", "h100", "-g", "1", "-h", "1", "-n", name, "--disk", "none", "--yes")


def test_a_lost_gpu_is_named_and_not_lent_and_the_box_of_the_other_goes_on(lending: CloudOfItsOwn, nvml: Nvml) -> None:
    assert lending.machine is not None
    user = add_person(lending, "g")
    user.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    asks(user, "first")
    view = user.until("first", "active")
    (held,) = view["boxes"][0]["gpus"]
    other = 1 if held == uuid(0) else 0
    nvml.says(*(gpu(number, LOST if number == other else 0) for number in (0, 1)))
    eventually("it is told", lambda: f"GPU {uuid(other)} of" in user.ok("status"), 90)
    assert "does not answer: GPU is lost" in user.ok("status")
    asks(user, "second")
    doctor = lending.odc("doctor", check=False, **nvml.environment).out
    assert uuid(other) in doctor
    assert user.view("second")["state"] == "queued"
    assert user.view("first")["state"] == "active"
    nvml.says(gpu(0), gpu(1))
    assert user.until("second", "active", 90)["boxes"][0]["gpus"] == [uuid(other)]
    user.ok("cancel", "second", "--yes")
    user.until("second", "cancelled")
    describe(lending.machine, 1 - other)
    eventually("it is told", lambda: "no CDI file describes it to the engine" in user.ok("status"), 90)
    assert user.view("first")["state"] == "active"
