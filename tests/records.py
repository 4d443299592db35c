"""All ports of the records, for tests that use several of them on one adapter."""

from __future__ import annotations

from typing import Protocol

from odc.ports.documents import Documents
from odc.ports.history import History
from odc.ports.leases import Leases
from odc.ports.pruning import Pruning
from odc.ports.state_store import StateStore
from odc.ports.store_space import StoreSpace


class Records(StateStore, Documents, History, Leases, Pruning, StoreSpace, Protocol):
    """All ports of the records; one adapter has all of them."""
