"""Reads and writes the stored documents. What has not changed since the last read is not read or decoded again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from odc.domain.document import Document
from odc.domain.errors import Conflict
from odc.domain.records import AuditEvent, Change
from odc.domain.status_documents import decode_content, encode_content
from odc.ports.documents import Documents
from odc.ports.state_store import StateStore

log = logging.getLogger(__name__)

MOST_BYTES = 3_000_000
"""Of the documents of one transaction: what every store takes at once."""
MOST_DOCUMENTS = 40
MOST_EVENTS = 50


class StoredDocuments:
    """The documents, with a cache by version. May be used by several threads at once.

    The cache is an optimisation only: a process without one reads the same.
    """

    def __init__(self, store: StateStore, documents: Documents) -> None:
        self._store = store
        self._documents = documents
        # Version and content by name, and the contents alone; replaced together, so threads may share them.
        self._cache: tuple[dict[str, tuple[int, Any]], Mapping[str, Any]] = ({}, {})

    def read(self) -> Mapping[str, Any]:
        """The content of every document that can be understood, by name; the same object as long as nothing changes.

        Raises:
            ProviderUnavailable: the store does not answer.
        """
        known, _ = self._cache
        versions = self._documents.list_document_versions()
        stale = [name for name, version in versions.items() if name not in known or known[name][0] != version]
        if stale or known.keys() != versions.keys():
            fresh = {
                found.name: (found.version, decode_content(found.name, found.body))
                for found in (self._documents.find_documents(stale) if stale else ())
            }
            known = {name: fresh.get(name) or known[name] for name in versions if name in fresh or name in known}
            self._keep(known)
        return self._cache[1]

    def _keep(self, known: dict[str, tuple[int, Any]]) -> None:
        self._cache = known, {name: content for name, (_, content) in known.items() if content is not None}

    def write(
        self, contents: Mapping[str, Any], events: Mapping[str, Sequence[AuditEvent]] = MappingProxyType({})
    ) -> bool:
        """Write documents, each over the version that was read last; return whether all of them were written.

        One that another writer has changed since stays as that writer has left it.

        Args:
            contents: by name.
            events: of what has changed in the documents of these names. Each is in the transaction of its document, so
                that it is written once, except for those beyond `MOST_EVENTS`, which are written before: a crash in
                between writes these again.

        Raises:
            ProviderUnavailable: the store does not answer; some of them may be written.
        """
        known, _ = self._cache
        documents = [
            Document(name=name, version=known[name][0] if name in known else 0, body=encode_content(content))
            for name, content in contents.items()
        ]
        complete = True
        for part in _in_transactions(documents):
            told = [event for one in part for event in events.get(one.name, ())]
            while len(told) > MOST_EVENTS:
                self._store.commit(Change(events=tuple(told[:MOST_EVENTS])))
                del told[:MOST_EVENTS]
            try:
                self._store.commit(Change(documents=part, events=tuple(told)))
            except Conflict:
                log.info("another process has written the status", extra={"documents": len(part)})
                complete = False
                continue
            written = {one.name: (one.version + 1, contents[one.name]) for one in part}
            self._keep({**self._cache[0], **written})
        return complete


def _in_transactions(documents: list[Document]) -> Iterator[tuple[Document, ...]]:
    part: list[Document] = []
    size = 0
    for document in documents:
        if part and (len(part) == MOST_DOCUMENTS or size + len(document.body) > MOST_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(document)
        size += len(document.body)
    if part:
        yield tuple(part)
