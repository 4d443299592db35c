"""Where public SSH keys come from."""

from __future__ import annotations

from typing import Protocol

import msgspec


class FetchedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one login.

    Attributes:
        user_id: the source's own number of that login: a renamed login keeps it, a re-registered one differs.
            0 if the source does not report it.
        keys: public keys, one line each, type and base64 part; OpenSSH accepts every one of them.
    """

    user_id: int
    keys: tuple[str, ...]


class KeySource(Protocol):
    """Public keys by login. May be called by several threads at once."""

    def fetch(self, login: str, known: tuple[str, ...] = ()) -> FetchedKeys:
        """Return the login's current keys. Waits a few seconds at most.

        Args:
            login: whose.
            known: the keys of the last fetch; while they are unchanged, the login's number is not needed, and a source
                with a rate limit is not asked for it: `user_id` is 0.

        Raises:
            NotFound: no such login, or it has no usable key; the message names the login.
            ProviderUnavailable: the source does not answer, or its rate limit is reached.
        """

    def find_login(self, user_id: int) -> str:
        """Return the current login of this number, after a renaming; empty if the source does not report it. Never
        raises.
        """
