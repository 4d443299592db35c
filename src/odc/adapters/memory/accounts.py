"""Logins in memory."""

from __future__ import annotations


class MemoryAccounts:
    """See `odc.ports.accounts`."""

    def __init__(self, logins: dict[int, str] | None = None) -> None:
        """Begin with these logins; key: uid."""
        self.logins = dict(logins or {})

    def find_login(self, uid: int) -> str | None:
        """The login that has this uid, or None."""
        return self.logins.get(uid)

    def find_uid(self, login: str) -> int | None:
        """The uid of this login, or None."""
        return next((uid for uid, name in self.logins.items() if name == login), None)
