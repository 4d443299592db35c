"""The contract of the stored documents, held by every adapter of the records."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.builders import NOW, a_reservation
from tests.records import Records

from odc.domain.document import MAX_BODY, Document
from odc.domain.errors import Conflict
from odc.domain.records import Change


def a_document(name: str = "cloud", body: bytes = b"{}") -> Document:
    return Document(name=name, body=body)


def test_documents_are_read_with_the_next_version_and_listed_without_their_bodies(store: Records) -> None:
    assert dict(store.list_document_versions()) == {}
    store.commit(Change(documents=(a_document(), a_document("nodes 0", b"\x00\xff"))))
    assert dict(store.list_document_versions()) == {"cloud": 1, "nodes 0": 1}
    (nodes,) = store.find_documents(("nodes 0", "nodes 1"))
    assert nodes == Document(name="nodes 0", version=1, body=b"\x00\xff")
    store.commit(Change(documents=(replace(nodes, body=b"new"),)))
    assert dict(store.list_document_versions()) == {"cloud": 1, "nodes 0": 2}
    assert {found.body for found in store.find_documents(["cloud", "nodes 0"])} == {b"{}", b"new"}
    assert store.find_documents(()) == ()


def test_a_document_that_has_changed_refuses_the_whole_change(store: Records) -> None:
    store.commit(Change(documents=(a_document(),)))
    record = a_reservation()
    for stale in (a_document(), replace(a_document(), version=7), replace(a_document("other"), version=1)):
        with pytest.raises(Conflict):
            store.commit(Change(documents=(stale,), reservations=(record,)))
    assert store.find_reservation(record.id) is None
    assert dict(store.list_document_versions()) == {"cloud": 1}


def test_a_document_of_the_largest_size_is_stored(store: Records) -> None:
    body = os.urandom(MAX_BODY)
    store.commit(Change(documents=(a_document(body=body),)))
    assert [found.body for found in store.find_documents(["cloud"])] == [body]


def test_a_lease_that_was_ended_is_free_for_anybody(store: Records) -> None:
    length = timedelta(minutes=10)
    store.expire_lease("sweep")
    assert store.acquire_lease("sweep", "a", NOW, length)
    assert not store.acquire_lease("sweep", "b", NOW, length)
    store.expire_lease("sweep")
    assert store.acquire_lease("sweep", "b", NOW, length)
    assert not store.acquire_lease("sweep", "a", NOW, length)
