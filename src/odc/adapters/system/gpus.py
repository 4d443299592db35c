"""The machine's GPUs, by NVIDIA's own library. Nothing here raises: a machine without a driver has no GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from odc.adapters.engine.nodes import FoundGpu


def find_gpus() -> tuple[FoundGpu, ...]:
    """Every NVIDIA GPU in the driver's order; none if there is no driver.

    A GPU that the driver lists but that does not answer (fallen off the bus) is left out: nobody could use it.
    """
    with _driver() as usable:
        if not usable:
            return ()
        import pynvml

        described = (_describe(index) for index in range(pynvml.nvmlDeviceGetCount()))
        return tuple(gpu for gpu in described if gpu is not None)


def driver_version() -> str:
    """The driver's version, or an empty string."""
    with _driver() as usable:
        if not usable:
            return ""
        import pynvml

        return _text(pynvml.nvmlSystemGetDriverVersion())


@contextmanager
def _driver() -> Iterator[bool]:
    """Whether there is a driver to ask, for as long as the block lasts."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _describe(index: int) -> FoundGpu | None:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return FoundGpu(
            uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
            name=_text(pynvml.nvmlDeviceGetName(handle)),
            memory_gib=pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30,
            device=_device(handle),
        )
    except pynvml.NVMLError:
        return None


def _device(handle: object) -> str:
    """The device file of a GPU: the driver numbers them by minor device numbers, not by its own order."""
    import pynvml

    try:
        return f"/dev/nvidia{pynvml.nvmlDeviceGetMinorNumber(handle)}"
    except pynvml.NVMLError:
        return ""


def _text(value: object) -> str:
    """The library's older versions give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
