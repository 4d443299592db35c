"""The access rules: one pure function. `odc.control.authorization` applies it.

Identity comes from the transport, never from a message. Owners may see and do everything with their own records.
Operators may too, except for secrets. Others may see that a reservation exists (type, count, times, owner), and nothing
more.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's identity, as proved by the transport.

    Attributes:
        id: the owner id in records, such as `unix:1000`. A uid can be used again for another person: `domain.user`
            detects that by the login name.
        user: the name that people read.
        admin: an operator of the cloud.
    """

    id: str
    user: str
    admin: bool = False


class Act(StrEnum):
    """An action that needs permission."""

    SEE_EXISTS = "see that it exists"
    SEE = "see"
    SEE_SECRETS = "see its secrets"
    CHANGE = "change"
    FOR_ONESELF = "do this for themselves"
    OPERATE = "operate the cloud"


def allowed(caller: Principal, act: Act, owner: str | None = None) -> bool:
    """Whether the caller may do this.

    Args:
        caller: from the transport.
        act: the action.
        owner: principal id of the object's owner; None for the cloud itself.
    """
    match act:
        case Act.SEE_EXISTS | Act.FOR_ONESELF:
            return True
        case Act.SEE | Act.CHANGE:
            return caller.id == owner or caller.admin
        case Act.SEE_SECRETS:
            return caller.id == owner
        case Act.OPERATE:
            return caller.admin
