"""Where public SSH keys come from."""

from __future__ import annotations

from typing import Protocol

import msgspec


class FetchedKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one login.

    Attributes:
        user_id: the source's own number of that login: a renamed login keeps it, a re-registered one differs.
            0 if the source does not say.
        keys: public keys, one line each, type and base64 part; OpenSSH accepts every one of them.
    """

    user_id: int
    keys: tuple[str, ...]


class KeySource(Protocol):
    """Public keys by login. May be called by several threads at once."""

    def fetch(self, login: str, known: tuple[str, ...] = ()) -> FetchedKeys:
        """The login's keys now. Waits a few seconds at most.

        Args:
            login: whose.
            known: the keys of the last time; while they are the same, nobody needs the login's number, and a source
                that limits questions is not asked for it: `user_id` is 0.

        Raises:
            NotFound: no such login, or it has no usable key; the message names the login.
            ProviderUnavailable: the source does not answer, or allows no more questions for now.
        """

    def find_login(self, user_id: int) -> str:
        """The login that this number has now, after a renaming; empty if the source does not say. Never raises."""
