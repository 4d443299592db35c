"""The logins of the machine, as its name service knows them."""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from pathlib import Path

SUBORDINATE = Path("/etc/subuid")


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

    def find_lender(self, uid: int, file: Path = SUBORDINATE) -> str | None:
        """Return the login whose subordinate uid this is, by `/etc/subuid`; None if it is not a subordinate uid."""
        for login, first, count in lent_ranges(file):
            if first <= uid < first + count:
                return (self.find_login(int(login)) or login) if login.isdecimal() else login
        return None


def lent_ranges(file: Path = SUBORDINATE) -> Iterator[tuple[str, int, int]]:
    """The subordinate ids of the machine's users: login or uid, first id and count; none if the file cannot be read."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        login, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if first.isdecimal() and count.isdecimal():
            yield login, int(first), int(count)
