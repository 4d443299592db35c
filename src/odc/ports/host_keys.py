"""Where SSH host keys come from."""

from __future__ import annotations

from typing import Protocol

from odc.domain.reservation import HostKey


class HostKeys(Protocol):
    """A maker of host keys. May be called by several threads at once."""

    def make(self) -> HostKey:
        """A new Ed25519 key pair, in OpenSSH's formats."""
