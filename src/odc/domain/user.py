"""A user: whose SSH keys open the boxes. The last good keys are kept when GitHub fails.

A Unix user is identified by uid, and a uid can be used again for another person. So the login name is recorded with the
uid: when the uid has another login, the record is held until an operator decides whether that is the same person.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import msgspec

from odc.domain.access import Principal

_UNIX = "unix:"
_SYSTEM = f"{_UNIX}0"
_FORMER = "former:"


class User(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one user.

    Attributes:
        principal: the id that the transport proves.
        version: as read from the store; 0 for one that is not stored yet. Every submission moves it, so that two
            at once cannot both pass the user's limits.
        name: the login, as people read it; `uid1000` for a uid without one.
        claimed_by: another login that has used the same uid since; while it is set the record is held, and requests of
            that uid are refused. Empty if there was none.
        leaving: principal that gets what this user has, while that is done in several transactions; empty otherwise.
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
    claimed_by: str = ""
    leaving: str = ""
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

    @property
    def keys_digest(self) -> str:
        """Digest of the keys; `Reservation.owner_keys` has it."""
        return hashlib.blake2b("\0".join(self.keys).encode(), digest_size=8).hexdigest()

    @property
    def is_former(self) -> bool:
        """Whether an operator has forgotten this user; the record only names the previous owner of the disks."""
        return self.principal.startswith(_FORMER)


def with_fetched_keys(user: User, github_id: int, keys: tuple[str, ...]) -> User:
    """Return the user with newly fetched keys.

    GitHub lets a login be renamed and taken by another account, so the account's number is compared. If it differs, the
    keys are another person's: the last good ones are kept, and the fault says so. They are also kept if the source does
    not report the number and the keys differ, since that could be the same case.

    Args:
        user: with `github_user` set.
        github_id: number of the account that has this login now; 0 if the source does not report it.
        keys: the account's keys, one public key a line.
    """
    if user.github_id and github_id and user.github_id != github_id:
        fault = f"{user.github_user} is another GitHub account now; its keys are not used"
        return msgspec.structs.replace(user, github_fault=fault)
    if user.github_id and not github_id and keys != user.github_keys:
        fault = f"GitHub does not say whether {user.github_user} is still the same account"
        return msgspec.structs.replace(user, github_fault=fault)
    return msgspec.structs.replace(user, github_id=github_id or user.github_id, github_keys=keys, github_fault="")


def unnamed(uid: int) -> str:
    """Return the name for a uid without a login."""
    return f"uid{uid}"


def unix_principal(uid: int) -> str:
    """Return the principal of a Unix user."""
    return f"{_UNIX}{uid}"


def uid_of(principal: str) -> int | None:
    """The uid of a Unix user's principal; None for a former user."""
    number = reference_of(principal)
    return int(number) if principal.startswith(_UNIX) and number.isdecimal() else None


def reference_of(principal: str) -> str:
    """Return what operators type for a user: the uid of a Unix user, the principal of others."""
    return principal.removeprefix(_UNIX)


def former_principal(user: User, token: str) -> str:
    """The principal under which the disks of a forgotten user are kept; no transport ever proves it."""
    return f"{_FORMER}{reference_of(user.principal)}:{token}"


def is_same_person(user: User, caller: Principal) -> bool:
    """Whether the caller, who has the user's uid, is the same person, as far as is known.

    A uid that has no login at the moment (a directory service that does not answer, a user who was deleted while
    processes run) is not evidence of another person, unless another login has come with it before. Root is always
    root.
    """
    if caller.id == _SYSTEM:
        return True
    if is_unnamed(caller):
        return not user.claimed_by
    return is_same_login(user.name, caller.user)


def is_unnamed(caller: Principal) -> bool:
    """Whether the caller's uid has no login."""
    uid = uid_of(caller.id)
    return uid is not None and caller.user == unnamed(uid)


def is_same_login(one: str, other: str) -> bool:
    """Whether two logins of one uid are spellings of one name.

    Directory services give a login with or without its domain (`ann`, `ann@corp`, `CORP\\ann`) and in any case,
    depending on their settings; two different domains are two logins.
    """
    (name, domain), (other_name, other_domain) = _login_parts(one), _login_parts(other)
    return name == other_name and (domain == other_domain or not domain or not other_domain)


def _login_parts(login: str) -> tuple[str, str]:
    """The name and the domain of a login."""
    folded = login.casefold()
    if "\\" in folded:
        domain, _, name = folded.rpartition("\\")
        return name, domain
    name, _, domain = folded.partition("@")
    return name, domain
