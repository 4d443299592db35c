"""The logins of the machine, as its name service knows them."""

from __future__ import annotations

import pwd


class SystemAccounts:
    """See `odc.ports.accounts`."""

    def find_login(self, uid: int) -> str | None:
        """The login that has this uid, or None."""
        try:
            return pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return None

    def find_uid(self, login: str) -> int | None:
        """The uid of this login, or None."""
        try:
            return pwd.getpwnam(login).pw_uid
        except (KeyError, ValueError):
            return None
