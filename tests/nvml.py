"""A management library of NVIDIA's that is compiled for the tests and loaded by the real binding."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOST, MISMATCH, UNKNOWN = 15, 18, 999
"""NVML_ERROR_GPU_IS_LOST, NVML_ERROR_LIB_RM_VERSION_MISMATCH, NVML_ERROR_UNKNOWN."""


@dataclass
class Nvml:
    """The library's folder, and the file that says what it says."""

    folder: Path
    file: Path

    @property
    def environment(self) -> dict[str, Any]:
        """For programs that are to load it."""
        return {"LD_LIBRARY_PATH": str(self.folder), "ODC_TEST_NVML": str(self.file)}

    def says(self, *lines: str) -> None:
        """From the next question on; see `nvml.c`."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.chmod(0o644)
        fresh.replace(self.file)


def gpu(number: int, code: int = 0, name: str = "NVIDIA_H100_80GB_HBM3") -> str:
    """The line of one GPU."""
    return f"gpu {uuid(number)} {name} 80 {code}"


def uuid(number: int) -> str:
    """The identity of a GPU."""
    return f"GPU-{number:08d}-aaaa-bbbb-cccc-dddddddddddd"


def build_nvml(folder: Path) -> Nvml:
    """Compile the library."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = Path(__file__).with_name("nvml.c"), folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", target, source], check=True)
    made = Nvml(folder, folder / "says")
    made.says(gpu(0), gpu(1))
    return made
