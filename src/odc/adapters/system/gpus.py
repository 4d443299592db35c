"""The machine's GPUs, by NVIDIA's own library."""

from __future__ import annotations

from odc.adapters.engine.nodes import FoundGpu


def find_gpus() -> tuple[FoundGpu, ...]:
    """Every NVIDIA GPU in the driver's order; none if there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_describe(index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def driver_version() -> str:
    """The driver's version, or an empty string."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()


def _describe(index: int) -> FoundGpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return FoundGpu(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        memory_gib=memory.total / 2**30,
    )
