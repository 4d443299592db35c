"""The image's own tools in every shell: `apt-get`, which fetches its lists first, and the simulated `nvidia-smi`."""

from __future__ import annotations

import pytest
from tests.box_root import Root


@pytest.mark.parametrize(
    ("arguments", "lists", "fetched"),
    [
        (("install", "-y", "jq"), "", True),
        (("-o", "A=install", "--yes", "upgrade"), "", True),
        (("install", "jq"), "deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4", False),
        (("remove", "install"), "", False),
        (("update",), "", False),
        ((), "", False),
    ],
)
def test_the_first_install_fetches_the_package_lists(
    root: Root, arguments: tuple[str, ...], lists: str, fetched: bool
) -> None:
    folder = root.path / "var/lib/apt/lists"
    (folder / "partial").mkdir(parents=True)
    if lists:
        (folder / lists).touch()
    said = root.path / "said"
    root.put("usr/bin/apt-get", f'#!/bin/sh\necho "$@" >> {said}\n').chmod(0o755)
    done = root.run(*arguments, program="apt-get")
    asked = " ".join(arguments) + "\n"
    assert done.returncode == 0
    assert said.read_text() == ("update -qq\n" if fetched else "") + asked
    assert done.stdout == ""


@pytest.fixture
def gpus(root: Root) -> Root:
    """A box with three pretended GPUs."""
    for index in (0, 1, 10):
        root.put(f"run/odc-gpus/{index}", f"h100 80GB\n81920\nGPU-{index}\n")
    return root


def test_the_simulated_tool_says_that_it_is(gpus: Root) -> None:
    lines = gpus.run(program="nvidia-smi-simulated").stdout.splitlines()
    assert lines[0].startswith("SIMULATED")
    assert len(lines) == 5


def test_the_simulated_tool_lists_gpus_by_number(gpus: Root) -> None:
    done = gpus.run("-L", program="nvidia-smi-simulated")
    assert done.stdout.splitlines() == [
        f"GPU {index}: h100 80GB (SIMULATED) (UUID: GPU-{place})" for index, place in enumerate((0, 1, 10))
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--query-gpu=index,memory.total", "--format=csv"), "index, memory.total [MiB]\n2, 81920 MiB\n"),
        (("--format=csv,noheader", "--query-gpu=uuid,memory.total"), "GPU-10, 81920 MiB\n"),
        (("--query-gpu=name,uuid,memory.total", "--format=csv,noheader,nounits"), "h100 80GB, GPU-10, 81920\n"),
        (("--query-gpu=driver_version", "--format=csv,noheader"), "[N/A]\n"),
    ],
)
def test_the_simulated_tool_answers_what_scripts_ask(gpus: Root, options: tuple[str, ...], expected: str) -> None:
    assert gpus.run(*options, "-i", "2", program="nvidia-smi-simulated").stdout == expected


@pytest.mark.parametrize("options", [("-q",), ("--query-gpu=name",), ("-i",)])
def test_the_simulated_tool_refuses_what_it_does_not_know(gpus: Root, options: tuple[str, ...]) -> None:
    assert gpus.run(*options, program="nvidia-smi-simulated").returncode == 2


def test_a_box_without_gpus_has_no_devices(root: Root) -> None:
    done = root.run("-L", program="nvidia-smi-simulated")
    assert (done.returncode, done.stdout) == (6, "No devices were found\n")
