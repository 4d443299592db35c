"""The files of a box, from its record. Pure. They are the contract of `docs/box.md`."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

from odc.control.context import Policy
from odc.domain.box import BoxMount, BoxName, BoxSpec
from odc.domain.disk import Disk
from odc.domain.node import Node
from odc.domain.reservation import Place, Reservation
from odc.domain.resources import BoxResources, share_of


class BoxAccess(NamedTuple):
    """The keys of a box's SSH server.

    Attributes:
        keys: the owner's, which open it; one public key a line.
        host_key: private half of its own.
    """

    keys: tuple[str, ...]
    host_key: str


def holder_of(record: Reservation) -> str:
    """Return the holder name of this attempt, for its disk's volume."""
    return f"{record.id}-{record.attempt}"


def reservation_of(holder: str) -> str:
    """Return the reservation's id in a holder name."""
    return holder.rpartition("-")[0]


def box_names(record: Reservation) -> tuple[BoxName, ...]:
    """The boxes of the current attempt, in rank order."""
    return tuple(BoxName(record.id, record.attempt, rank) for rank in range(len(record.places)))


def host_name(record: Reservation, rank: int) -> str:
    """Return the box's host name: the reservation's name, with the rank in a gang."""
    return record.name if len(record.places) == 1 else f"{record.name}-{rank}"


def resources_of(record: Reservation, place: Place, node: Node) -> BoxResources:
    """Return what the box got at its placement; for a record of 0.1.0 its share of the node as it is now."""
    return place.resources or share_of(node.allocatable, record.spec.units, node.units)


def box_spec(
    record: Reservation, rank: int, node: Node, home: BoxMount | None, files: dict[str, bytes], policy: Policy
) -> BoxSpec:
    """Return the specification of the box of this rank.

    Args:
        record: placed.
        rank: which box.
        node: where it goes, as seen now.
        home: the attached volume; None for a temporary home.
        files: from `box_files`.
        policy: the operator's.
    """
    place = record.places[rank]
    return BoxSpec(
        name=BoxName(record.id, record.attempt, rank),
        node=place.node,
        image=record.spec.image or policy.image,
        hostname=host_name(record, rank),
        gpus=place.gpus,
        gpu_type=record.spec.gpu_type,
        units=record.spec.units,
        resources=resources_of(record, place, node),
        # Of an active reservation, whose owner knows them.
        kept_ports=place.ports,
        mounts=() if home is None else (home,),
        files=files,
        id_base=place.id_base,
    )


def box_files(
    record: Reservation, rank: int, node: Node, access: BoxAccess, disk: Disk | None, policy: Policy
) -> dict[str, bytes]:
    """Return the files that the box reads under `/run/odc`; key: path below it.

    Args:
        record: placed; until it is active, its expiry time is computed from its promise.
        rank: which box.
        node: where it is.
        access: the keys of its SSH server.
        disk: its home; None for a temporary one.
        policy: the operator's.
    """
    spec = record.spec
    resources = resources_of(record, record.places[rank], node)
    gpus = f"{spec.gpus} x {spec.gpu_type}" if spec.gpus else f"{spec.gpu_type} (no GPUs)"
    environment = {
        **policy.box_environment,
        "ODC_NAME": record.name,
        "ODC_RESERVATION": record.id,
        "ODC_CPUS": str(resources.cpus),
        "ODC_MEMORY_GIB": str(resources.limit.memory_gib),
        "OMP_NUM_THREADS": str(resources.cpus),
        "MAKEFLAGS": f"-j{resources.cpus}",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(resources.cpus),
        "TZ": policy.timezone,
    }
    texts = {
        "authorized_keys": "".join(f"{key}\n" for key in access.keys),
        "ssh_host_ed25519_key": access.host_key,
        "ssh_host_ed25519_key.pub": record.host_key + "\n",
        "name": host_name(record, rank) + "\n",
        "gpus": gpus + "\n",
        "env": "".join(f"{name}={value}\n" for name, value in sorted(environment.items())),
        "disk": (record.spec.disk if disk else "none") + "\n" if record.spec.disk else "none\n",
        "disk_id": (disk.id + "\n") if disk else "",
        "disk_use": _first_use(disk),
        "expires_at": _end(record),
    }
    if node.simulated:
        texts["simulated"] = "yes\n"
    files = {path: text.encode() for path, text in (texts | _out_of_memory(record)).items()}
    # Also without any: the file of a running box must not keep those of earlier settings.
    return files | {"ca.crt": policy.box_certificates}


class AppliedConfig(NamedTuple):
    """What the files of a reservation's boxes were written from.

    Attributes:
        digest: as `box_config_digest` gives it.
        keys: digest of the owner's keys that were written.
        owner_keys: what the record said of them before the owner's keys were read.
    """

    digest: str
    keys: str
    owner_keys: str


def box_config_digest(record: Reservation, keys: str, policy: Policy) -> str:
    """Return a digest of the parts of a box's files that can change while it runs: its expiry time, its owner's keys,
    its memory kills, and the operator's settings for boxes.

    Args:
        record: placed.
        keys: digest of the owner's keys.
        policy: the operator's.
    """
    settings = (*sorted(f"{name}={value}" for name, value in policy.box_environment.items()), policy.timezone)
    news = "\0".join((_end(record), keys, *_out_of_memory(record).values(), *settings))
    return hashlib.blake2b(news.encode() + b"\0" + policy.box_certificates, digest_size=8).hexdigest()


def _out_of_memory(record: Reservation) -> dict[str, str]:
    """Return the greeting's lines about memory kills; empty if there were none."""
    found = record.out_of_memory
    if not found.kills:
        return {}
    return {
        "oom": f"{found.kills}\n",
        "oom_at": f"{int(found.last_at.timestamp())}\n" if found.last_at else "\n",
        "oom_command": f"{found.command}\n",
    }


def _first_use(disk: Disk | None) -> str:
    """Size and use of the disk in bytes, until it is measured."""
    if disk is None:
        return ""
    last = disk.last_snapshot
    return f"{disk.size_bytes} {min(last.used_bytes if last else 0, disk.size_bytes)}\n"


def _end(record: Reservation) -> str:
    """Return the expiry time in seconds since the epoch; until the reservation is active, the latest possible one."""
    end: datetime | None = record.expires_at
    if end is None and record.ready_by is not None:
        end = record.ready_by + record.spec.length
    return f"{int(end.timestamp())}\n" if end else "\n"
