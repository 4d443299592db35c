"""What passes have found out, as it is stored: documents for processes that run no passes.

| document | content |
|---|---|
| `cloud` | `CloudRecord` |
| `host` | `HostRecord` |
| `outlook TYPE` | `Outlook` of the pool of that GPU type |
| `nodes N`, `boxes N`, `disks N` | a part of the nodes by name, the boxes by reservation, the usage of disks by disk |

The large maps are in parts, each of which fits in one item of every store, so that a change writes only its own part.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from odc.domain.box import BoxSeen
from odc.domain.disk import VolumeLabel
from odc.domain.host import HostReport
from odc.domain.node import Node
from odc.domain.outlook import Outlook
from odc.domain.problem import Problem
from odc.domain.storage import DiskUse, Level, StorageUse

CLOUD, HOST, NODES, BOXES, DISKS, OUTLOOK = "cloud", "host", "nodes", "boxes", "disks", "outlook"
PARTS = 16
"""Of each large map."""


class CloudRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud as a whole.

    Attributes:
        at: when this was written; None before the cluster has answered for the first time.
        frozen: the wall clock disagrees with the machine's; timed ends wait for the operator.
        problems: current faults, and recent repairs of the host.
        quarantined: boxes without a record.
        storage: usage of the disk storage, without that of the single disks; None before the first measurement.
        level: how urgent the lack of free space is.
        storage_problems: faults of the storage; also in `problems`.
        orphans: labels of volumes without a record, by disk id; not all if there are very many.
    """

    at: datetime | None = None
    frozen: bool = False
    problems: tuple[Problem, ...] = ()
    quarantined: tuple[BoxSeen, ...] = ()
    storage: StorageUse | None = None
    level: Level = Level.OK
    storage_problems: tuple[Problem, ...] = ()
    orphans: tuple[VolumeLabel, ...] = ()


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A node as it was last seen. What an operator decides about a node belongs in a document of its own.

    Attributes:
        node: the node.
        silent_since: when it stopped being ready; None while it is. A node that is ready has been seen by the last
            pass, so that time is not written.
    """

    node: Node
    silent_since: datetime | None = None


class HostRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks of the host have found out.

    Attributes:
        report: of the newest checks together.
        repaired: what was restored, and when.
    """

    report: HostReport = HostReport()
    repaired: tuple[tuple[Problem, datetime], ...] = ()


_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    CLOUD: msgspec.json.Decoder(CloudRecord),
    HOST: msgspec.json.Decoder(HostRecord),
    NODES: msgspec.json.Decoder(dict[str, NodeRecord]),
    BOXES: msgspec.json.Decoder(dict[str, tuple[BoxSeen, ...]]),
    DISKS: msgspec.json.Decoder(dict[str, DiskUse]),
    OUTLOOK: msgspec.json.Decoder(Outlook),
}


def kind_of(name: str) -> str:
    """The kind of a document: the first word of its name."""
    return name.partition(" ")[0]


def part_of(kind: str, key: str) -> str:
    """The name of the document that has this key of a large map."""
    return f"{kind} {zlib.crc32(key.encode()) % PARTS:x}"


def in_parts(kind: str, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A large map as the contents of its documents, by name; parts without a key are left out."""
    parts: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        parts.setdefault(part_of(kind, key), {})[key] = value
    return parts


def from_parts(kind: str, contents: Mapping[str, Any]) -> dict[str, Any]:
    """The large map of which these are the documents.

    Args:
        kind: which map.
        contents: by name, those of other kinds too.
    """
    parts = (content for name, content in contents.items() if kind_of(name) == kind)
    return {key: value for part in parts for key, value in part.items()}


def encode_content(content: Any) -> bytes:
    """The content of a document as it is stored.

    Cost: linear in the content.
    """
    return zlib.compress(msgspec.json.encode(content), 1)


def decode_content(name: str, body: bytes) -> Any:
    """The content that `encode_content` made these bytes of; None if it cannot be read: the next pass writes it again.

    Args:
        name: of the document.
        body: as stored.
    """
    decoder = _DECODERS.get(kind_of(name))
    try:
        return decoder.decode(zlib.decompress(body)) if decoder else None
    except (zlib.error, msgspec.MsgspecError, ValueError):
        return None


def is_close(before: int | None, now: int | None) -> bool:
    """Whether two numbers of bytes differ by less than a percent, which is not worth a write."""
    if before is None or now is None:
        return before is now
    return abs(before - now) * 100 <= max(before, now)
