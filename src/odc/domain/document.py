"""A stored document: facts that passes write and that only need to be read again, such as the status of the cluster."""

from __future__ import annotations

import msgspec


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One document.

    Attributes:
        name: unique.
        version: as read from the store; 0 for one that is not stored yet.
        body: its content; a store need not take more than `MAX_BODY` bytes.
    """

    name: str
    version: int = 0
    body: bytes


MAX_BODY = 350_000
"""Bytes of a body: what every store takes in one item."""
