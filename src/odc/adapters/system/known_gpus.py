"""Records the real GPUs of a cloud's machine, so that a lost GPU is noticed.

A GPU that has fallen off the bus is in no list of the driver. Its node keeps its size: other boxes keep running, and
the lost GPU is not lent. The file is in the state folder; without it the cloud knows only the current GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from odc.adapters.system.cdi import undescribed
from odc.adapters.system.gpus import survey_gpus
from odc.domain.node import FoundGpu
from odc.host import write_atomically


def gpus_file(state: Path) -> Path:
    """Return the file with the known GPUs."""
    return state / "gpus.json"


def machine_gpus(state: Path) -> tuple[FoundGpu, ...]:
    """Return the GPUs that answer, and those that did at an earlier start of the cloud and do not now."""
    found = survey_gpus().gpus
    here = {gpu.uuid for gpu in found}
    return (*found, *(gpu for gpu in _noted(state) if gpu.uuid not in here))


def lost_gpus(state: Path) -> tuple[FoundGpu, ...]:
    """Return the GPUs that an earlier start of the cloud found and that do not answer now."""
    here = {gpu.uuid for gpu in survey_gpus().gpus}
    return tuple(gpu for gpu in _noted(state) if gpu.uuid not in here)


def note_gpus(state: Path) -> None:
    """Add the GPUs that answer to the recorded ones."""
    gpus = machine_gpus(state)
    if gpus and set(gpus) != set(_noted(state)):
        write_atomically(gpus_file(state), msgspec.json.encode(gpus))


def broken_gpus(gpus: Iterable[str]) -> Mapping[str, str]:
    """Return GPU to the cause, for GPUs that cannot be lent now: it does not answer, or no CDI file describes it.

    Args:
        gpus: by UUID.
    """
    wanted = tuple(gpus)
    if not wanted:
        return {}
    survey = survey_gpus()
    here = {gpu.uuid for gpu in survey.gpus}
    lost = "; ".join(survey.faults) or "the NVIDIA driver does not list it any more"
    missing = {gpu: lost for gpu in wanted if gpu not in here}
    return {**undescribed(gpu for gpu in wanted if gpu in here), **missing}


def _noted(state: Path) -> tuple[FoundGpu, ...]:
    try:
        return msgspec.json.decode(gpus_file(state).read_bytes(), type=tuple[FoundGpu, ...])
    except (OSError, msgspec.MsgspecError):
        return ()
