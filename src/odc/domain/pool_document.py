"""The stored plan of a pool: one document, whose version is the version of the pool.

The slots of a pool's queue depend on each other, so they are one record and not a field of each reservation: a pass
that moves a thousand slots writes one row, and every commit leaves a plan that is feasible as a whole. A reservation
has what its user was told, and from its placement on its own slot.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from odc.domain.reservation import SlotRecord


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


Each = TypeVar("Each", SlotRecord, str)
_decoder = msgspec.msgpack.Decoder(PoolDocument)


def encode_document(document: PoolDocument) -> bytes:
    """Return the document as it is stored: MessagePack, compressed; about 20 bytes for each slot.

    Equal documents have equal bytes.

    Cost: linear in the slots.
    """
    in_order = replace(document, slots=_in_order(document.slots), causes=_in_order(document.causes))
    return zlib.compress(msgspec.msgpack.encode(in_order), 1)


def _in_order(each: Mapping[int, Each]) -> Mapping[int, Each]:
    keys = list(each)
    # A pass only adds to most plans, and sorting the pairs would make one of each.
    return each if keys == sorted(keys) else {key: each[key] for key in sorted(keys)}


def decode_document(body: bytes) -> PoolDocument:
    """Return the document that `encode_document` made these bytes of.

    Raises:
        ValueError: they are not a document.
    """
    try:
        return _decoder.decode(zlib.decompress(body))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ValueError(f"the plan of a pool cannot be read: {error}") from error
