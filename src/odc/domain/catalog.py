"""The GPU types that can be reserved, and the mapping of real GPUs to types.

The ten types are the user guide's table. Operators add or change types in the settings; a GPU that no type matches
becomes its own type, named after what NVML calls it (`rtx4090`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import msgspec

from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, NotFound
from odc.domain.names import near_match

_SAYS_NOTHING = re.compile(
    r"\b(nvidia|geforce|tesla|quadro|amd|instinct|graphics|generation|sxm\d*|pcie|nvl|hbm\w*)\b", re.ASCII
)
_MEMORY = re.compile(r"\b(\d{1,4}) ?gb\b", re.ASCII)
_TYPE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}", re.ASCII)


class GpuType(msgspec.Struct, frozen=True, kw_only=True):
    """One type that can be reserved. The descriptions and examples are those of the settings' reference page.

    Unknown fields are ignored: records of version 0.1.0 have `cpus` and `memory_gib`.
    """

    name: Annotated[str, msgspec.Meta(description="as typed after `-t`.", examples=["rtx4090"])]
    gpus_per_node: Annotated[
        int, msgspec.Meta(description="GPUs of a usual node; 0 for a type without GPUs.", examples=[4])
    ] = 0
    units_per_node: Annotated[
        int, msgspec.Meta(description="for a type without GPUs, how many boxes share a node.")
    ] = 1
    gpu_memory_gib: Annotated[int, msgspec.Meta(description="memory of one GPU; 0 for none.", examples=[24])] = 0
    match: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="lower-case words that must all stand in the name that NVML gives, for the type to match.",
            examples=[("rtx", "4090")],
        ),
    ] = ()
    min_memory_gib: Annotated[
        int,
        msgspec.Meta(
            description="a GPU with less memory is not of this type (the 40 GB and 80 GB editions of one chip)."
        ),
    ] = 0

    @property
    def has_gpus(self) -> bool:
        """Whether boxes of this type hold GPUs."""
        return self.gpus_per_node > 0


def _gpu(name: str, per_node: int, memory: int, *match: str) -> GpuType:
    return GpuType(
        name=name,
        gpus_per_node=per_node,
        gpu_memory_gib=memory,
        match=match,
    )


BUILT_IN: tuple[GpuType, ...] = (
    _gpu("b200", 8, 192, "b200"),
    _gpu("h200", 8, 141, "h200"),
    _gpu("h100", 8, 80, "h100"),
    _gpu("a100", 8, 40, "a100"),
    _gpu("a10g", 4, 24, "a10g"),
    _gpu("l4", 4, 24, "l4"),
    _gpu("t4", 4, 16, "t4"),
    _gpu("t4-small", 1, 16),
    GpuType(name="cpu-arm", units_per_node=4),
    GpuType(name="cpu-x86", units_per_node=4),
)


class Catalog:
    """The types by name: the built-in ones, changed and joined by the operator's."""

    def __init__(self, extra: Iterable[GpuType] = ()) -> None:
        self._types: dict[str, GpuType] = {}
        for gpu_type in (*BUILT_IN, *extra):
            if not _TYPE_NAME.fullmatch(gpu_type.name):
                raise InvalidRequest(f"GPU type name {gpu_type.name!r} is not allowed: a-z, 0-9 and '-'")
            self._types[gpu_type.name] = gpu_type

    @property
    def types(self) -> Mapping[str, GpuType]:
        """Every known type by name, in the catalog's order."""
        return self._types

    def get_type(self, name: str) -> GpuType:
        """The type of this name.

        Raises:
            NotFound: no such type; the message suggests a near one, or lists all.
        """
        if name in self._types:
            return self._types[name]
        meant = near_match(name, self._types)
        ending = f"did you mean {meant}?" if meant else f"there are {', '.join(self._types)}"
        raise NotFound(f"no GPU type {name[:40]!r}; {ending}", ("all types", gpu_dev("avail")))

    def has_gpus(self, name: str) -> bool:
        """Whether boxes of this type hold GPUs. Types outside of the catalog are named after GPUs, so they do."""
        return name not in self._types or self._types[name].has_gpus

    def type_of_gpu(self, nvml_name: str, memory_gib: float) -> str:
        """Return the type of a real GPU, or the name of a new type for it.

        Args:
            nvml_name: as NVML gives it, such as `NVIDIA H100 80GB HBM3`.
            memory_gib: of the GPU.
        """
        words = set(re.split(r"[^a-z0-9]+", nvml_name.lower()))
        matching = [
            t for t in self._types.values() if t.match and set(t.match) <= words and memory_gib >= t.min_memory_gib
        ]
        if matching:
            return max(matching, key=lambda t: (len(t.match), t.min_memory_gib)).name
        return own_type_name(nvml_name)


def absent_type(name: str, here: Iterable[str], known: Iterable[str], command: Callable[[str], str]) -> NotFound:
    """Return the error for a type that the cloud does not have. A known type is not treated as a typing error.

    Args:
        name: as it was typed.
        here: the types that the cloud has.
        known: every type of the catalog.
        command: returns the command for another type.
    """
    has = sorted(here)
    near = None if name in known else near_match(name, has) or _only_beginning(name, has)
    meant = f"did you mean {near}? It has" if near else "it has"
    text = f"this cloud has no {name[:40]!r}; {meant} {', '.join(has) or 'no nodes'}"
    that_one = [("that one", command(near))] if near else []
    return NotFound(text, *that_one, ("available types", gpu_dev("avail")))


def _only_beginning(name: str, types: Iterable[str]) -> str | None:
    """Return the only type with this prefix, `cpu-x86` for `cpu`; None if there is not exactly one."""
    found = [other for other in types if name and other.startswith(name)]
    return found[0] if len(found) == 1 else None


def own_type_name(nvml_name: str) -> str:
    """Return a type name derived from NVML's name of a GPU: its model, and its memory if that is part of the name.

    `NVIDIA GeForce RTX 4090` is `rtx4090`, `Tesla V100-SXM2-32GB` is `v100-32gb`.
    """
    plain = _SAYS_NOTHING.sub(" ", nvml_name.lower())
    memory = _MEMORY.search(plain)
    model = re.sub(r"[^a-z0-9]+", "", _MEMORY.sub(" ", plain))[:24] or "gpu"
    return f"{model}-{memory[1]}gb" if memory else model
