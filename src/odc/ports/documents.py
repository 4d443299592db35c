"""Documents: what passes have found out, for processes that run no passes. They are written with a `Change`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from odc.domain.document import Document


class Documents(Protocol):
    """The stored documents. Any method may be called by several threads and processes at once.

    A body is complete, and as new as its version says. Two documents need not be of one moment.

    Every method raises `ProviderUnavailable` when the store does not answer.
    """

    def list_document_versions(self) -> Mapping[str, int]:
        """The version of every document, by name. No body is read."""

    def find_documents(self, names: Iterable[str]) -> tuple[Document, ...]:
        """The documents of these names that exist, in any order."""
