"""The stored plan of a pool: one document, whose version is the version of the pool.

The slots of a pool's queue depend on each other, so they are one record and not a field of each reservation: a pass
that moves a thousand slots writes one row, and every commit leaves a plan that is feasible as a whole. A reservation
has what its user was told, and from its placement on its own slot.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from odc.domain.reservation import SlotRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class PoolDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of one pool.

    Attributes:
        picture: digest of the nodes, allocations and requests that it was made from. As long as they are the same, so
            is the plan.
        slots: of the queued reservations, by their place in line (`Reservation.order`).
        causes: why promises have to be moved later that are not told yet, by place in line.
    """

    picture: str = ""
    slots: Mapping[int, SlotRecord] = {}
    causes: Mapping[int, str] = {}


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it is stored: names and causes once each, and a slot as a few numbers.

    Attributes:
        picture: as in the document.
        nodes: the names of nodes that slots refer to.
        slots: place in line, start in microseconds since 1970, 1 for an estimate, and the nodes by index.
        causes: cause to places in line.
    """

    picture: str = ""
    nodes: tuple[str, ...] = ()
    slots: tuple[tuple[int, ...], ...] = ()
    causes: Mapping[str, tuple[int, ...]] = {}


_decoder = msgspec.json.Decoder(_Stored)


def encode_document(document: PoolDocument) -> bytes:
    """Return the document as it is stored: about 20 bytes for each slot. Equal documents have equal bytes.

    Cost: linear in the slots.
    """
    index: dict[str, int] = {}
    slots = [
        (
            order,
            (slot.start - _EPOCH) // _MICROSECOND,
            int(slot.estimate),
            *(index.setdefault(name, len(index)) for name in slot.nodes),
        )
        for order, slot in sorted(document.slots.items())
    ]
    causes: dict[str, list[int]] = {}
    for order, cause in sorted(document.causes.items()):
        causes.setdefault(cause, []).append(order)
    stored = {"picture": document.picture, "nodes": list(index), "slots": slots, "causes": causes}
    return zlib.compress(msgspec.json.encode(stored), 1)


def decode_document(body: bytes) -> PoolDocument:
    """Return the document that `encode_document` made these bytes of.

    Raises:
        ValueError: they are not a document.
    """
    try:
        stored = _decoder.decode(zlib.decompress(body))
        slots = {
            order: SlotRecord(
                start=_EPOCH + start * _MICROSECOND,
                nodes=tuple(stored.nodes[index] for index in indexes),
                estimate=bool(estimate),
            )
            for order, start, estimate, *indexes in stored.slots
        }
    except (zlib.error, msgspec.MsgspecError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(f"the plan of a pool cannot be read: {error}") from error
    causes = {order: cause for cause, orders in stored.causes.items() for order in orders}
    return PoolDocument(picture=stored.picture, slots=slots, causes=causes)
