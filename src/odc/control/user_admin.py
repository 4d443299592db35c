"""Administration of users, for operators: list, forget, and transfer to another login.

A forgotten user's disks are kept under a principal that no transport proves, until an operator gives them to another
user.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from odc.control.change_parts import at_once_or_in_parts
from odc.control.context import Ports
from odc.control.operator_events import OperatorEvents
from odc.domain.commands import gpu_dev, odc
from odc.domain.disk import Disk
from odc.domain.errors import InvalidRequest, NotFound
from odc.domain.event_kind import EventKind
from odc.domain.names import cut, free_name, near_match
from odc.domain.paging import all_pages
from odc.domain.records import AuditEvent, Change, Handover
from odc.domain.reservation import Reservation
from odc.domain.user import User, former_principal, is_same_login, reference_of, uid_of, unix_principal

_LIST = ("all of them", odc("user list"))


@dataclass(frozen=True, slots=True)
class UserAccount:
    """One user with their disks and reservations.

    Attributes:
        user: the record.
        login: the login that has the uid now; None if there is none, or for a former user.
        disks: by name.
        live: reservations that are not ended.
    """

    user: User
    login: str | None
    disks: tuple[Disk, ...]
    live: tuple[Reservation, ...]

    @property
    def held(self) -> bool:
        """Whether the uid has a login other than the recorded one."""
        if self.user.claimed_by:
            return True
        return self.login is not None and uid_of(self.user.principal) != 0 and not _is_name(self.user, self.login)


def _is_name(user: User, login: str) -> bool:
    return is_same_login(user.name, login)


class Users:
    """Lists, forgets and transfers users. May be called by several threads at once."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def accounts(self) -> tuple[UserAccount, ...]:
        """Every user, by principal; former ones only while something of theirs is left.

        Cost: a few questions for each user.
        """
        found = (self._account(user) for user in all_pages(self._ports.history.list_users))
        return tuple(entry for entry in found if not entry.user.is_former or entry.disks or entry.live)

    def _account(self, user: User) -> UserAccount:
        uid = uid_of(user.principal)
        return UserAccount(
            user=user,
            login=None if uid is None else self._ports.accounts.find_login(uid),
            disks=self._disks(user.principal),
            live=self._live(user.principal),
        )

    def _live(self, principal: str) -> tuple[Reservation, ...]:
        return tuple(all_pages(partial(self._ports.history.list_live, principal)))

    def _disks(self, principal: str) -> tuple[Disk, ...]:
        return tuple(all_pages(partial(self._ports.history.list_disks, principal)))

    def find(self, reference: str) -> User:
        """Return the user of a uid, a recorded login, or a principal.

        Raises:
            NotFound: none is.
            InvalidRequest: several are; the message lists them.
        """
        users = tuple(all_pages(self._ports.history.list_users))
        exact = [user for user in users if reference in (user.principal, reference_of(user.principal))]
        # While somebody is given to another one of the same name in several transactions, the name is the old one's.
        new = {user.leaving for user in users}
        named = exact or [user for user in users if user.name == reference and user.principal not in new]
        if len(named) > 1:
            principals = ", ".join(user.principal for user in named)
            raise InvalidRequest(
                f"several users are recorded as {cut(reference)}: {principals}; name one of those", _LIST
            )
        if not named:
            near = near_match(cut(reference), [user.name for user in users])
            meant = f"; did you mean {near}?" if near else ""
            raise NotFound(f"no user {cut(reference)!r} is recorded{meant}", _LIST)
        return named[0]

    def forget(
        self, user: User, end: Callable[[Reservation], Change], events: OperatorEvents
    ) -> tuple[tuple[Change, ...], str]:
        """Return the changes that delete a user's keys and record, end their reservations, and keep their disks for a
        later owner.

        If they are several, the first one records who keeps the disks, and the repetition after a crash goes on with
        that.

        Args:
            user: the user to forget.
            end: returns the change that ends a live reservation.
            events: of the request.

        Returns:
            The changes, and what they do as a sentence.

        Raises:
            InvalidRequest: the user is forgotten already, and disks of theirs are kept.
        """
        disks = self._disks(user.principal)
        live = self._live(user.principal)
        if user.is_former:
            raise InvalidRequest(
                f"{user.name} is forgotten already; {_count(len(disks), 'disk')} of theirs are kept",
                ("hand them over", odc(f"user move {user.principal} LOGIN")),
            )
        to = user.leaving or former_principal(user, uuid.uuid4().hex[:8])
        ends = [_given(record, end(record), to) for record in live]
        given = {disk.id for change in ends for disk in change.disks}
        rest = self._renamed_disks((disk for disk in disks if disk.id not in given), to)
        changes = [*ends, *(Change(disks=(disk,)) for disk in rest)]
        answer = f"{user.name} ({user.principal}) is forgotten: {_count(len(user.keys), 'key')} removed"
        answer += f", {_count(len(live), 'reservation')} ending" if live else ""
        kept = (*(self._disks(to) if user.leaving else ()), *disks)
        if kept:
            names = ", ".join(disk.name for disk in kept)
            answer += f"; disks kept: {names}. Hand them over: " + odc(f"user move {to} LOGIN")
        is_new = changes and self._ports.store.find_user(to) is None
        owners = (User(principal=to, name=user.name),) if is_new else ()
        told = f"{_named(user)} was forgotten; what is kept belongs to {to}"
        forgotten = events.of_user(user.principal, EventKind.FORGOTTEN, told)
        return _given_away(user, to, owners, _with_disk_events(changes, user, to, events), (forgotten,)), answer

    def move(self, user: User, to: str, events: OperatorEvents) -> tuple[tuple[Change, ...], str]:
        """Return the changes that transfer everything of a user to a login: the same person's new name or uid, or
        another person.

        If they are several, the repetition after a crash goes on with what is left.

        Args:
            user: the previous owner.
            to: a login of this machine, or its uid.
            events: of the request.

        Returns:
            The changes, and what they do as a sentence.

        Raises:
            NotFound: there is no such login.
            InvalidRequest: the login's own record is held, or a disk or reservation in use has a name that is taken
                there.
        """
        uid, login = self._login(to)
        principal = unix_principal(uid)
        if principal == user.principal:
            return self._renamed(user, login, events)
        target = self._ports.store.find_user(principal)
        if target is not None and (target.claimed_by or not _is_name(target, login)):
            raise InvalidRequest(
                f"uid {uid} is recorded as {target.name} and is {login} now: first decide who that is",
                ("the same person", odc(f"user move {uid} {login}")),
                ("another person", odc(f"user forget {uid}")),
            )
        disks, live = self._disks(user.principal), self._live(user.principal)
        given = self._given_disks(disks, principal, login)
        self._check_names(live, principal)
        fresh = replace(target or User(principal=principal, name=login), name=login)
        if _is_name(user, login) and not fresh.keys:
            # The same person under a new uid; anybody else sets their own keys.
            fresh = replace(user, principal=principal, name=login, claimed_by="", leaving="", version=fresh.version)
        moved = [
            Change(reservations=(replace(record, owner=principal, user=login, owner_keys=fresh.keys_digest),))
            for record in live
        ]
        moved += [Change(disks=(disk,)) for disk in given]
        told = f"everything of {_named(user)} was given to {_named(fresh)}"
        ends = [events.of_user(one, EventKind.MOVED, told) for one in (user.principal, principal)]
        moved = _with_disk_events(moved, user, _named(fresh), events)
        changes = _given_away(user, principal, (fresh,), moved, tuple(ends))
        answer = f"{login} (uid {uid}) has what {user.name} ({user.principal}) had" + _what_moved(disks, given, live)
        return changes, answer if fresh.keys else f"{answer}. {login} has no SSH key yet"

    def _login(self, to: str) -> tuple[int, str]:
        uid = int(to) if to.isdecimal() and len(to) <= 10 else self._ports.accounts.find_uid(to)
        login = None if uid is None else self._ports.accounts.find_login(uid)
        if uid is None or login is None:
            raise NotFound(f"{cut(to)!r} is not a login of this machine", ("look it up", "getent passwd LOGIN"))
        return uid, login if to.isdecimal() else to

    def _renamed(self, user: User, login: str, events: OperatorEvents) -> tuple[tuple[Change, ...], str]:
        if user.name == login and not user.claimed_by:
            raise InvalidRequest(f"{user.principal} is recorded as {login} already; there is nothing to move", _LIST)
        live = [replace(record, user=login) for record in self._live(user.principal) if record.user != login]
        told = events.of_user(user.principal, EventKind.MOVED, f"recorded as {login}, was {user.name}")
        named = Change(users=(replace(user, name=login, claimed_by=""),), events=(told,))
        changes = at_once_or_in_parts(Change(), [Change(reservations=(record,)) for record in live], named)
        return changes, f"{user.principal} is the same person: recorded as {login}, was {user.name}"

    def _renamed_disks(self, disks: Iterable[Disk], principal: str) -> tuple[Disk, ...]:
        """Return the disks with the new owner, and with another name if the owner has a disk of that name."""
        taken = {disk.name for disk in self._disks(principal)}
        given = []
        for disk in disks:
            name = free_name(disk.name, taken)
            taken.add(name)
            given.append(replace(disk, owner=principal, name=name))
        return tuple(given)

    def _given_disks(self, disks: tuple[Disk, ...], principal: str, login: str) -> tuple[Disk, ...]:
        """As `_renamed_disks`.

        Raises:
            InvalidRequest: a disk that would get another name is in use.
        """
        given = self._renamed_disks(disks, principal)
        for old, new in zip(disks, given, strict=True):
            if old.name != new.name and old.holder is not None:
                raise InvalidRequest(
                    f"disk {old.name} is in use, and {login} has a disk of that name too: end one first",
                    ("end it", gpu_dev(f"cancel {old.holder[:8]}")),
                )
        return given

    def _check_names(self, live: Iterable[Reservation], principal: str) -> None:
        taken = {record.name for record in self._live(principal) if record.holds_name}
        for record in live:
            if record.holds_name and record.name in taken:
                raise InvalidRequest(
                    f"both have a reservation {record.name}: end one first",
                    ("end it", gpu_dev(f"cancel {record.id[:8]}")),
                )


def _named(user: User) -> str:
    return f"{user.name} ({user.principal})"


def _what_moved(disks: Sequence[Disk], given: Sequence[Disk], live: Sequence[Reservation]) -> str:
    """Return the disks, with their new names where these differ, and the reservations, to be added to a sentence."""
    named = [
        old.name if old.name == new.name else f"{old.name} as {new.name}" for old, new in zip(disks, given, strict=True)
    ]
    text = f"; disks: {', '.join(named)}" if named else ""
    return text + (f"; reservations: {', '.join(record.name for record in live)}" if live else "")


def _with_disk_events(changes: Sequence[Change], user: User, to: str, events: OperatorEvents) -> list[Change]:
    """Return the changes, each with an event for each disk that it gives to another owner, who is named as `to`."""
    told = f"from {_named(user)} to {to}"
    return [
        replace(
            change,
            events=(
                *change.events,
                *(events.of_disk(disk.id, EventKind.HANDED_OVER, f"{told}, as {disk.name}") for disk in change.disks),
            ),
        )
        for change in changes
    ]


def _given_away(
    user: User, to: str, owners: tuple[User, ...], changes: Sequence[Change], events: tuple[AuditEvent, ...]
) -> tuple[Change, ...]:
    """Return the changes with the user's record deleted at the end: as one, or in parts after the intent.

    Args:
        user: the previous owner.
        to: principal of the new owner.
        owners: the new owner's record, if it is to be written. It is first: a reservation needs its owner's keys.
        changes: give each reservation and disk to the new owner.
        events: of the users; written with the end, so that each is there once.
    """
    end = Change(handover=Handover(user=user, to=to), events=events)
    at_once = at_once_or_in_parts(Change(users=owners), changes, end)
    if len(at_once) == 1 or user.leaving == to:
        return at_once
    leaving = replace(user, leaving=to)
    deleted = replace(end, handover=Handover(user=replace(leaving, version=user.version + 1), to=to))
    return at_once_or_in_parts(Change(users=(*owners, leaving)), changes, deleted)


def _given(record: Reservation, ended: Change, to: str) -> Change:
    """Return the change that ends a reservation, with the new owner; one that ends already only gets the owner."""
    records = ended.reservations or (record,)
    return replace(
        ended,
        reservations=tuple(replace(one, owner=to) for one in records),
        disks=tuple(replace(disk, owner=to) for disk in ended.disks),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
