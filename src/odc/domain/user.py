"""A user: whose SSH keys open the boxes. The last good keys are kept when GitHub fails."""

from __future__ import annotations

from datetime import datetime

import msgspec


class User(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud knows of one user.

    Attributes:
        principal: the id that the transport proves.
        version: as read from the store; 0 for one that is not stored yet. Every submission moves it, so that two
            at once cannot both pass the user's limits.
        name: as people read it.
        github_user: whose keys are fetched; empty for none.
        github_id: GitHub's numeric id of that login when the keys were first fetched; 0 while unknown.
        github_keys: the last good ones, one public key a line as in `authorized_keys`.
        github_fetched_at: when they were fetched.
        github_fault: why the last fetch failed; empty if it did not.
        own_keys: the user's own list.
    """

    principal: str
    version: int = 0
    name: str
    github_user: str = ""
    github_id: int = 0
    github_keys: tuple[str, ...] = ()
    github_fetched_at: datetime | None = None
    github_fault: str = ""
    own_keys: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that opens the user's boxes, GitHub's first, none twice."""
        return tuple(dict.fromkeys((*self.github_keys, *self.own_keys)))
