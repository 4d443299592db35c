"""Authorization: whether a caller may do something, and which reservation a reference means to this caller.

The rules are `domain.access`; here they are applied to records. Requests are authorized in one place before their
handler runs (`request_handlers`), questions at the beginning of each method of `queries`.

A reference is a whole id, a prefix of it, or a name. It is looked up among the caller's own reservations first: those
that still have the name, then those that are ending, then the newest ended one. Only a whole id finds another user's,
and a prefix or a name if the caller is an operator.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence

from msgspec.structs import replace

from odc.domain.access import Act, Principal, allowed
from odc.domain.commands import gpu_dev, odc
from odc.domain.errors import Conflict, InvalidRequest, NotAllowed, NotFound
from odc.domain.names import SHORT_ID, cut, is_id, near_match, short
from odc.domain.records import Change
from odc.domain.reservation import Reservation
from odc.domain.user import User, is_same_person, is_unnamed, reference_of
from odc.ports.history import History
from odc.ports.state_store import StateStore

MIN_PREFIX = 4
_HEX = frozenset("0123456789abcdef")


class Authorizer:
    """Applies the access rules to records. May be called by several threads at once."""

    def __init__(self, store: StateStore, history: History) -> None:
        self._store = store
        self._history = history

    def admit(self, caller: Principal) -> None:
        """Let the caller act as the user that their uid is recorded as.

        Raises:
            NotAllowed: the uid's login has changed, so it may be another person's. The record is held until an operator
                decides who it is.
        """
        user = self._store.find_user(caller.id)
        if user is None:
            return
        if is_same_person(user, caller):
            self._note_claim(user, "")
            return
        other = user.claimed_by if is_unnamed(caller) else caller.user
        self._note_claim(user, other)
        uid, login = reference_of(caller.id), shlex.quote(other)
        raise NotAllowed(
            f"uid {uid} was {user.name} in this cloud and is {other} now. {user.name}'s disks, keys and "
            f"reservations are kept, and your requests are refused, until an operator says who you are",
            (f"if you are {user.name}", "sudo " + odc(f"user move {uid} {login}")),
            ("if you are not", "sudo " + odc(f"user forget {uid}")),
        )

    def _note_claim(self, user: User, login: str) -> None:
        """Record which other login has come with the user's uid; empty: none has."""
        if user.claimed_by == login:
            return
        # Another request has recorded it, or the record was deleted: the next request reads it again.
        with contextlib.suppress(Conflict):
            self._store.commit(Change(users=(replace(user, claimed_by=login),)))

    def require(self, caller: Principal, act: Act) -> None:
        """Return if the caller may do this with the cloud itself.

        Raises:
            NotAllowed: the caller may not; the message names who may.
        """
        if not allowed(caller, act):
            raise NotAllowed(f"{caller.user} may not {act}; only an operator may")

    def resolve(self, caller: Principal, reference: str, act: Act) -> Reservation:
        """Return the reservation that the reference means, if the caller may do this with it.

        Raises:
            NotFound: there is none that the caller may see.
            InvalidRequest: the reference is too short, or several are meant; the message lists them.
            NotAllowed: it may be seen, but this may not be done.
        """
        record = self._find(caller, reference)
        if not allowed(caller, act, record.owner):
            mine = ("yours", gpu_dev("list"))
            raise NotAllowed(f"{caller.user} may not {act} {short(record.id)}: it is {record.user}'s", mine)
        return record

    def _find(self, caller: Principal, reference: str) -> Reservation:
        if is_id(reference):
            record = self._store.find_reservation(reference)
            if record is not None:
                return record
            raise _not_found(reference)
        owner = None if caller.admin else caller.id
        named = self._named(caller.id, reference)
        if not named and _is_prefix(reference):
            named = self._history.list_by_prefix(reference, owner, limit=20).items
            if len(named) > 1:
                ids = ", ".join(f"{r.name} ({r.id[: SHORT_ID + 4]})" for r in named)
                raise InvalidRequest(f"{reference} is the beginning of several ids: {ids}; type more of it")
        if not named and caller.admin:
            named = self._history.list_named(reference, None, live=True, limit=20).items
            if len(named) > 1:
                ids = ", ".join(f"{r.user}'s {short(r.id)}" for r in named)
                raise InvalidRequest(f"several users have a reservation {reference}: {ids}; name one by its id")
        if not named:
            raise self._unknown(caller, reference)
        return named[0]

    def _named(self, owner: str, name: str) -> Sequence[Reservation]:
        """Return the caller's reservations of this name, the best match first."""
        live = self._history.list_named(name, owner, live=True, limit=50).items
        if live:
            return sorted(live, key=lambda record: (not record.holds_name, -record.order))
        return self._history.list_named(name, owner, live=False, limit=1).items

    def _unknown(self, caller: Principal, reference: str) -> NotFound | InvalidRequest:
        if reference and set(reference) <= _HEX and len(reference) < MIN_PREFIX:
            least = f"the beginning of an id has at least {MIN_PREFIX} digits"
            return InvalidRequest(f"you have no reservation {reference!r}; {least}", ("yours", gpu_dev("list --all")))
        live = self._history.list_live(caller.id, limit=50).items
        meant = near_match(reference, [record.name for record in live])
        return _not_found(reference, meant)


def _is_prefix(reference: str) -> bool:
    return len(reference) >= MIN_PREFIX and set(reference) <= _HEX


def _not_found(reference: str, meant: str | None = None) -> NotFound:
    ending = f"; did you mean {meant}?" if meant else ""
    return NotFound(f"you have no reservation {cut(reference)!r}{ending}", ("yours", gpu_dev("list --all")))
