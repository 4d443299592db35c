"""The plan of a pool as it is stored: nothing is lost, and ten thousand slots fit one item of a database."""

from __future__ import annotations

import random
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odc.domain.pool_document import PoolDocument, decode_document, encode_document
from odc.domain.reservation import SlotRecord

NAMES = st.text(min_size=1, max_size=8)
SLOTS = st.builds(
    SlotRecord,
    start=st.datetimes(min_value=datetime(2020, 1, 1), timezones=st.just(UTC)),
    nodes=st.lists(NAMES, max_size=3, unique=True).map(tuple),
    estimate=st.booleans(),
)
ORDERS = st.integers(1, 10**12)


@given(st.builds(PoolDocument, slots=st.dictionaries(ORDERS, SLOTS), causes=st.dictionaries(ORDERS, NAMES)))
def test_a_document_is_read_as_it_was_written(document: PoolDocument) -> None:
    assert decode_document(encode_document(document)) == document


def test_ten_thousand_slots_on_many_nodes_are_far_below_400_kib() -> None:
    dice = random.Random(1)
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    slots = {
        order: SlotRecord(
            start=begin + timedelta(microseconds=dice.randrange(10**12)), nodes=(f"gpu-node-{dice.randrange(1250)}",)
        )
        for order in range(100_000, 110_000)
    }
    assert len(encode_document(PoolDocument(slots=slots))) < 200 * 2**10


@pytest.mark.parametrize("body", [b"x", zlib.compress(b"[]"), zlib.compress(b'{"slots":[[1,2,0,5]]}')])
def test_bytes_that_are_not_a_document_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        decode_document(body)
