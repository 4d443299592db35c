"""NVIDIA's library as the real binding loads it: broken drivers and lost GPUs are findings, not tracebacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.nvml import LOST, MISMATCH, UNKNOWN, Nvml, build_nvml, gpu, uuid

from odc.adapters.system.cdi import undescribed

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

SURVEY = """
import json
from pathlib import Path
from odc.adapters.system.gpus import driver_version, survey_gpus
from odc.adapters.system.known_gpus import broken_gpus, lost_gpus, machine_gpus, note_gpus
import sys
state = Path(sys.argv[1])
survey = survey_gpus()
if sys.argv[2] == "start":
    note_gpus(state)
print(json.dumps({
    "gpus": [found.uuid for found in survey.gpus],
    "faults": survey.faults,
    "version": driver_version(),
    "machine": [found.uuid for found in machine_gpus(state)],
    "lost": [found.uuid for found in lost_gpus(state)],
    "islands": [found.island for found in survey.gpus],
    "broken": dict(broken_gpus(found.uuid for found in machine_gpus(state))),
}))
"""


@pytest.fixture
def nvml(tmp_path: Path) -> Nvml:
    return build_nvml(tmp_path / "nvml")


def survey(nvml: Nvml, state: Path, how: str = "look") -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SURVEY, str(state), how],
        env={**os.environ, **nvml.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_gpus_that_answer_are_found_by_identity(nvml: Nvml, tmp_path: Path) -> None:
    found = survey(nvml, tmp_path)
    assert (found["gpus"], found["faults"], found["version"]) == ([uuid(0), uuid(1)], [], "550.54.15")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f"count {UNKNOWN}", "the NVIDIA driver cannot count its GPUs: Unknown Error"),
        (f"init {MISMATCH}", "the NVIDIA driver does not work: RM has detected an NVML/RM version mismatch"),
    ],
)
def test_a_driver_that_does_not_work_is_told_and_no_gpu_is_lent(
    nvml: Nvml, tmp_path: Path, line: str, fault: str
) -> None:
    survey(nvml, tmp_path, "start")
    nvml.says(gpu(0), gpu(1), line)
    found = survey(nvml, tmp_path)
    assert (found["gpus"], found["faults"]) == ([], [fault])
    assert found["machine"] == [uuid(0), uuid(1)]
    assert found["broken"] == {uuid(0): fault, uuid(1): fault}


def test_an_unknown_version_of_the_driver_is_not_an_error(nvml: Nvml, tmp_path: Path) -> None:
    nvml.says(gpu(0), f"version {UNKNOWN}")
    assert survey(nvml, tmp_path)["version"] == ""


def test_a_gpu_that_fell_off_the_bus_is_named_and_the_others_are_found(nvml: Nvml, tmp_path: Path) -> None:
    survey(nvml, tmp_path, "start")
    nvml.says(gpu(0, LOST), gpu(1))
    found = survey(nvml, tmp_path)
    assert found["gpus"] == [uuid(1)]
    assert found["lost"] == [uuid(0)]
    assert "GPU 0 of the NVIDIA driver does not answer: GPU is lost" in found["broken"][uuid(0)]


def test_a_gpu_that_the_driver_lists_no_more_is_missed_after_a_restart(nvml: Nvml, tmp_path: Path) -> None:
    survey(nvml, tmp_path, "start")
    nvml.says(gpu(1))
    found = survey(nvml, tmp_path, "start")
    assert found["machine"] == [uuid(1), uuid(0)]
    assert found["broken"][uuid(0)] == "the NVIDIA driver does not list it any more"
    nvml.says(gpu(0), gpu(1))
    assert survey(nvml, tmp_path, "start")["lost"] == []


def test_doctor_names_a_lost_gpu_and_how_to_forget_it(nvml: Nvml, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    survey(nvml, state, "start")
    nvml.says(gpu(0, LOST), gpu(1))
    config = tmp_path / "odc.toml"
    config.write_text(f'cloud = "gpudoc"\nstate = "{state}"\nsocket = "{tmp_path}/odc.sock"\n')
    done = subprocess.run(
        [sys.executable, "-m", "odc.entrypoints.odc", "--config", str(config), "doctor", "--json"],
        env={**os.environ, **nvml.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    found = [
        (line["level"], line["text"], line["hint"]) for line in json.loads(done.stdout) if line["subject"] == "GPUs"
    ]
    assert ("ok", "1 x NVIDIA H100 80GB HBM3, driver 550.54.15, lent as h100", "") in found
    assert any(level == "fail" and "GPU is lost" in text for level, text, _ in found)
    assert any(uuid(0) in text and f"rm {state}/gpus.json" in hint for _, text, hint in found)


def test_a_gpu_without_a_description_or_with_a_stale_one_is_named(tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.550"
    library.touch()
    text = f"devices:\n- name: {uuid(0)}\ncontainerEdits:\n  mounts:\n  - hostPath: {library}\n"
    (tmp_path / "nvidia.yaml").write_text(text)
    assert undescribed([uuid(0)], [tmp_path]) == {}
    assert "no CDI file describes it" in undescribed([uuid(0), uuid(1)], [tmp_path])[uuid(1)]
    library.unlink()
    assert f"{library} is not there" in undescribed([uuid(0)], [tmp_path])[uuid(0)]
    (tmp_path / "nvidia.yaml").unlink()
    assert "nvidia-ctk cdi generate" in undescribed([uuid(0)], [tmp_path])[uuid(0)]


FOUR = [gpu(number) for number in range(4)]
NUMA = ["numa 0 0", "numa 1 0", "numa 2 65", "numa 3 65"]


@pytest.mark.parametrize(
    ("lines", "islands"),
    [
        ([], [""] * 4),
        (NUMA, ["numa-0", "numa-0", "numa-65", "numa-65"]),
        ([*NUMA, "link 0 2", "link 1 3"], ["nvlink-0", "nvlink-1", "nvlink-0", "nvlink-1"]),
        ([*NUMA, "link 0 1", "link 1 2", "link 2 3"], ["numa-0", "numa-0", "numa-65", "numa-65"]),
    ],
    ids=["unknown", "numa", "bridges", "all linked"],
)
def test_gpus_are_in_islands_of_nvlink_if_it_divides_them_and_else_of_numa(
    nvml: Nvml, tmp_path: Path, lines: list[str], islands: list[str]
) -> None:
    nvml.says(*FOUR, *lines)
    assert survey(nvml, tmp_path)["islands"] == islands
