"""The machine's GPUs, by NVIDIA's own library. Nothing here raises: a machine without a driver has no GPUs.

The library's errors are findings: a driver that does not work and a GPU that does not answer are reported to the
operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from odc.adapters.system.gpu_islands import island_names
from odc.domain.node import FoundGpu


@dataclass(frozen=True, slots=True)
class GpuSurvey:
    """The driver's current state.

    Attributes:
        gpus: those that answer, in the driver's order.
        faults: faults of the driver or of single GPUs, as sentences.
    """

    gpus: tuple[FoundGpu, ...] = ()
    faults: tuple[str, ...] = ()


def survey_gpus() -> GpuSurvey:
    """Ask the driver for every GPU. A machine without a driver has no GPUs and no faults."""
    import pynvml

    with _driver() as fault:
        if fault is not None:
            return GpuSurvey(faults=(fault,) if fault else ())
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            return GpuSurvey(faults=(f"the NVIDIA driver cannot count its GPUs: {_words(error)}",))
        found = [_describe(index) for index in range(count)]
        described = [(handle, gpu) for handle, gpu in found if gpu is not None]
        islands = island_names([handle for handle, _ in described])
    return GpuSurvey(
        gpus=tuple(replace(gpu, island=island) for (_, gpu), island in zip(described, islands, strict=True)),
        faults=tuple(str(fault) for fault, gpu in found if gpu is None),
    )


def find_gpus() -> tuple[FoundGpu, ...]:
    """Return every NVIDIA GPU that answers, in the driver's order; none if there is no driver."""
    return survey_gpus().gpus


def driver_version() -> str:
    """The driver's version, or an empty string."""
    import pynvml

    with _driver() as fault:
        if fault is not None:
            return ""
        try:
            return _text(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError:
            return ""


@contextmanager
def _driver() -> Iterator[str | None]:
    """Yield None if there is a driver, which can be used within the block; else why it does not work, empty if the
    machine has none.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        absent = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        yield "" if error.value in absent else f"the NVIDIA driver does not work: {_words(error)}"
        return
    try:
        yield None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _describe(index: int) -> tuple[object, FoundGpu | None]:
    """Return the GPU at this place in the driver's order, after its handle; or None, after why it is not described."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return handle, FoundGpu(
            uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
            name=_text(pynvml.nvmlDeviceGetName(handle)),
            memory_gib=pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30,
            device=_device(handle),
        )
    except pynvml.NVMLError as error:
        return f"GPU {index} of the NVIDIA driver does not answer: {_words(error)}", None


def _device(handle: object) -> str:
    """The device file of a GPU: the driver numbers them by minor device numbers, not by its own order."""
    import pynvml

    try:
        return f"/dev/nvidia{pynvml.nvmlDeviceGetMinorNumber(handle)}"
    except pynvml.NVMLError:
        return ""


def _words(error: Exception) -> str:
    """Return NVIDIA's message for the error, or a general one if the library cannot return it."""
    try:
        return str(error).rstrip(".")
    except Exception:  # noqa: BLE001 - the text is only for a message; which errors a broken library raises is unknown
        return f"NVML error {getattr(error, 'value', '?')}"


def _text(value: object) -> str:
    """The library's older versions give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
