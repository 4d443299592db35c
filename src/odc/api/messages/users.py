"""Users and their keys."""

from __future__ import annotations

import msgspec

from odc.domain.open_enum import OpenEnum


class KeySource(OpenEnum):
    """Where a public key comes from."""

    GITHUB = "GitHub"
    OWN = "own"


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A public key that opens the caller's boxes.

    Attributes:
        fingerprint: as `ssh-keygen -l` prints it.
        kind: such as `ssh-ed25519`.
        comment: of the key.
        source: where it comes from.
        key: its kind and base64 part, without the comment.
    """

    fingerprint: str
    kind: str
    comment: str
    source: KeySource
    key: str = ""


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, as the server identifies them.

    Attributes:
        user: the name that people read.
        principal: the id that the transport proves.
        admin: an operator of the cloud.
        github_user: whose keys are used; empty for none.
        github_fault: why GitHub's keys could not be refreshed; the last good ones are used.
        keys: every key that opens the caller's boxes.
    """

    user: str
    principal: str
    admin: bool
    github_user: str
    github_fault: str
    keys: tuple[KeyView, ...]


class UserView(msgspec.Struct, frozen=True, kw_only=True):
    """One user, as operators see them.

    Attributes:
        principal: the id that owns the user's records: `unix:UID`, or `former:…` for a forgotten user.
        uid: None for a former user.
        name: the login that is recorded.
        login: the login that has the uid now; None if there is none.
        held: the uid has another login than the recorded one; its requests are refused until an operator decides.
        disks: names.
        reservations: names of those that are not ended.
        keys: number of keys that open the user's boxes.
        github_user: whose keys are used; empty for none.
    """

    principal: str
    uid: int | None
    name: str
    login: str | None
    held: bool
    disks: tuple[str, ...]
    reservations: tuple[str, ...]
    keys: int
    github_user: str


class UserList(msgspec.Struct, frozen=True, kw_only=True):
    """Every user with a record, by principal.

    Attributes:
        users: by name.
    """

    users: tuple[UserView, ...]
