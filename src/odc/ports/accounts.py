"""The logins of the machine: who has which uid now."""

from __future__ import annotations

from typing import Protocol


class Accounts(Protocol):
    """Any method may be called by several threads at once. An absent login may be a directory that does not answer."""

    def find_login(self, uid: int) -> str | None:
        """The login that has this uid, or None."""

    def find_uid(self, login: str) -> int | None:
        """The uid of this login, or None."""
