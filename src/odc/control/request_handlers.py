"""Every request that clients can send: its permission, its handler, and the type of its answer.

`REQUESTS` at the end of this file is the only definition. A request that is not in it cannot be handled, and an entry
cannot be written without a permission, which is checked before the handler is called. Handlers read records and return
a change; they write nothing themselves. `requests.py` commits the change together with the request, so that a repeat
acts once.

To add a request: a message in `odc.domain.requests`, a handler and an entry here, and a method of `odc.api.client`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from odc.control.authorization import Authorizer
from odc.control.change_parts import in_parts
from odc.control.clock_check import anchor_now
from odc.control.context import Policy, Ports
from odc.control.disk_usage import prune
from odc.control.operator_events import OperatorEvents
from odc.control.orphaned_disks import recover
from odc.control.owner_keys import change_of_keys
from odc.control.reserving import new_reservation
from odc.control.status_records import StatusRecords
from odc.control.sweeps import NAMES, STORAGE
from odc.control.user_admin import Users
from odc.domain import lifecycle
from odc.domain.access import Act, Principal
from odc.domain.commands import gpu_dev, odc
from odc.domain.errors import InvalidRequest, NotFound, ProviderUnavailable
from odc.domain.event_kind import EventKind
from odc.domain.names import check_github_user
from odc.domain.problem_text import problem_text
from odc.domain.records import AuditEvent, Change
from odc.domain.requests import (
    AcceptClock,
    Cancel,
    EndAll,
    ForgetUser,
    MoveUser,
    PruneSnapshots,
    RecoverDisk,
    Request,
    Reserve,
    SetGithubUser,
    SetOwnKeys,
)
from odc.domain.reservation import EndReason, Reservation, State
from odc.domain.ssh_keys import parse_public_key
from odc.domain.status import EndCause
from odc.domain.user import User, with_fetched_keys
from odc.ports.key_source import FetchedKeys

MAX_OWN_KEYS = 50

Answer = Reservation | User | str
"""The record that the request is about, the caller's own record, or a sentence."""


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of a request.

    Attributes:
        change: the change to commit, together with the request.
        parts: changes that are committed before it, one after the other. Each is complete by itself: after a fault the
            request is not stored, and its repeat has only the rest to do.
        answer: the answer after the commit.
        sweeps: those that have work to do afterwards, and should not wait for their next time.
    """

    change: Change
    answer: Answer
    parts: tuple[Change, ...] = ()
    sweeps: tuple[str, ...] = ()


class RequestHandlers:
    """Decides on requests whose sender is authorized. May be called by several threads at once."""

    def __init__(self, ports: Ports, policy: Policy, status: StatusRecords) -> None:
        self._ports = ports
        self._policy = policy
        self._status = status
        self._users = Users(ports)

    def _events(self, caller: Principal) -> OperatorEvents:
        return OperatorEvents(caller.user, self._ports.clock.now())

    def user_of(self, caller: Principal) -> User:
        """The caller's record; a new one, which is not stored yet, if there is none."""
        return self._ports.store.find_user(caller.id) or User(principal=caller.id, name=caller.user)

    def reserve(self, caller: Principal, request: Reserve) -> Effect:
        """Queue a reservation."""
        room = self._ports.space.room()
        if room.refuses and room.problem:
            # The remaining space of the file system is needed to end the existing reservations.
            raise ProviderUnavailable(problem_text(room.problem), ("an operator makes room", "sudo " + odc("doctor")))
        change = new_reservation(caller, self.user_of(caller), request, self._ports, self._policy, self._status.current)
        return Effect(change=change, answer=change.reservations[0])

    def cancel(self, caller: Principal, _: Cancel, record: Reservation) -> Effect:
        """End a reservation; one that has ended, or is ending, is not changed."""
        return Effect(change=self._end(caller, record) if record.live else Change(), answer=record)

    def _end(self, caller: Principal, record: Reservation) -> Change:
        """Return the change that ends a live reservation for its owner or an operator; empty if it is ending already.

        A queued one ends at once and releases its disk here: no box has used the disk. For the others, a pass releases
        the disk once its snapshot is verified.
        """
        now = self._ports.clock.now()
        by = "" if caller.id == record.owner else caller.user
        trigger = lifecycle.EndRequested(at=now, why=EndReason.CANCELLED, cause=EndCause.CANCELLED, by=by)
        after = lifecycle.apply(record, trigger)
        if after == record:
            return Change()
        disk = self._ports.store.find_disk(record.disk_id) if record.disk_id else None
        event = AuditEvent(
            subject_id=record.id, at=now, actor=caller.user, kind=EventKind.CANCELLED, text="asked to end it"
        )
        return Change(
            reservations=(after,),
            disks=(disk.released_by(record.id),) if disk is not None and after.state is State.ENDED else (),
            events=(event,),
        )

    def set_github_user(self, caller: Principal, request: SetGithubUser) -> Effect:
        """Fetch the login's keys now, so that a wrong login is refused at once; with an empty login, forget them."""
        user = self.user_of(caller)
        if not request.login:
            fresh = replace(user, github_user="", github_id=0, github_keys=(), github_fault="", github_fetched_at=None)
        else:
            login = check_github_user(request.login)
            fetched = self._fetch(login)
            # The account number is deleted with the old login: the caller states that the new one is theirs.
            fresh = with_fetched_keys(replace(user, github_user=login, github_id=0), fetched.user_id, fetched.keys)
            fresh = replace(fresh, github_fetched_at=self._ports.clock.now())
        return self._change_keys(fresh)

    def _fetch(self, login: str) -> FetchedKeys:
        try:
            return self._ports.keys.fetch(login)
        except (NotFound, ProviderUnavailable) as error:
            own = ("a key of your own", gpu_dev("config set ssh_key ~/.ssh/id_ed25519.pub"))
            raise type(error)(error.message, *error.hints, own) from error

    def set_own_keys(self, caller: Principal, request: SetOwnKeys) -> Effect:
        """Replace the caller's own list of keys."""
        if len(request.keys) > MAX_OWN_KEYS:
            raise InvalidRequest(f"{len(request.keys)} keys are too many; at most {MAX_OWN_KEYS}")
        keys = tuple(dict.fromkeys(parse_public_key(line) for line in request.keys))
        return self._change_keys(replace(self.user_of(caller), own_keys=keys))

    def _change_keys(self, fresh: User) -> Effect:
        return _in_effect(change_of_keys(self._ports.history, fresh), replace(fresh, version=fresh.version + 1))

    def accept_clock(self, _: Principal, __: AcceptClock) -> Effect:
        """Record both clocks as they are now; from then on they are compared with that."""
        change = Change(clock_anchor=anchor_now(self._ports.clock))
        return Effect(change=change, answer="the clock is accepted; reservations end by it", sweeps=NAMES)

    def end_all(self, caller: Principal, _: EndAll) -> Effect:
        """End every live reservation, several in each transaction. The answer counts those that were live before."""
        changes = [self._end(caller, record) for record in self._ports.store.observe().reservations]
        return _in_effect(in_parts(changes), f"ending: {len(changes)}; disks are kept")

    def forget_user(self, caller: Principal, request: ForgetUser) -> Effect:
        """Delete a user's keys and record, end their reservations, keep their disks."""
        user = self._users.find(request.user)
        return _in_effect(*self._users.forget(user, lambda record: self._end(caller, record), self._events(caller)))

    def move_user(self, caller: Principal, request: MoveUser) -> Effect:
        """Transfer everything of a user to another login."""
        return _in_effect(*self._users.move(self._users.find(request.user), request.to, self._events(caller)))

    def prune_snapshots(self, caller: Principal, request: PruneSnapshots) -> Effect:
        """Mark older snapshots for deletion; the storage maintenance deletes them."""
        parts, answer = prune(self._ports, request.keep, request.owner, request.disk, self._events(caller))
        return _in_effect(parts, answer, sweeps=(STORAGE,))

    def recover_disk(self, caller: Principal, request: RecoverDisk) -> Effect:
        """Make records for disks that have files but no record."""
        parts, answer = recover(self._ports, self._policy, request, self._events(caller))
        return _in_effect(parts, answer, sweeps=(STORAGE,))


def _in_effect(parts: tuple[Change, ...], answer: Answer, sweeps: tuple[str, ...] = ()) -> Effect:
    """The parts, the last one with the request."""
    last = parts[-1] if parts else Change()
    return Effect(change=last, parts=parts[:-1], answer=answer, sweeps=sweeps)


class _NamesReservation(Protocol):
    @property
    def reservation(self) -> str: ...


AnyRequest = TypeVar("AnyRequest", contravariant=True)
AboutReservation = TypeVar("AboutReservation", bound=_NamesReservation, contravariant=True)


@dataclass(frozen=True, slots=True)
class CloudRequest(Generic[AnyRequest]):
    """A request about the cloud, or about the caller's own records.

    Attributes:
        permission: what the caller must be allowed to do.
        handler: decides on the request.
        answer: type of the answer.
    """

    permission: Act
    handler: Callable[[RequestHandlers, Principal, AnyRequest], Effect]
    answer: type[Reservation] | type[User] | type[str]

    def decide(
        self, handlers: RequestHandlers, authorizer: Authorizer, caller: Principal, request: AnyRequest
    ) -> Effect:
        """Call the handler, if the caller is allowed to.

        Raises:
            NotAllowed: the caller is not; nothing was read.
            RequestError: the handler refused.
        """
        authorizer.require(caller, self.permission)
        return self.handler(handlers, caller, request)


@dataclass(frozen=True, slots=True)
class ReservationRequest(Generic[AboutReservation]):
    """A request about one reservation, which its field `reservation` refers to.

    Attributes:
        permission: what the caller must be allowed to do with that reservation.
        handler: decides on the request; gets the reservation as well.
        answer: type of the answer.
    """

    permission: Act
    handler: Callable[[RequestHandlers, Principal, AboutReservation, Reservation], Effect]
    answer: type[Reservation] | type[User] | type[str]

    def decide(
        self, handlers: RequestHandlers, authorizer: Authorizer, caller: Principal, request: AboutReservation
    ) -> Effect:
        """Find the reservation and call the handler, if the caller is allowed to.

        Raises:
            NotFound, NotAllowed, InvalidRequest: as `Authorizer.resolve`.
            RequestError: the handler refused.
        """
        record = authorizer.resolve(caller, request.reservation, self.permission)
        return self.handler(handlers, caller, request, record)


REQUESTS: Mapping[type[Request], CloudRequest[Any] | ReservationRequest[Any]] = {
    Reserve: CloudRequest(Act.FOR_ONESELF, RequestHandlers.reserve, Reservation),
    Cancel: ReservationRequest(Act.CHANGE, RequestHandlers.cancel, Reservation),
    SetGithubUser: CloudRequest(Act.FOR_ONESELF, RequestHandlers.set_github_user, User),
    SetOwnKeys: CloudRequest(Act.FOR_ONESELF, RequestHandlers.set_own_keys, User),
    AcceptClock: CloudRequest(Act.OPERATE, RequestHandlers.accept_clock, str),
    EndAll: CloudRequest(Act.OPERATE, RequestHandlers.end_all, str),
    ForgetUser: CloudRequest(Act.OPERATE, RequestHandlers.forget_user, str),
    MoveUser: CloudRequest(Act.OPERATE, RequestHandlers.move_user, str),
    PruneSnapshots: CloudRequest(Act.OPERATE, RequestHandlers.prune_snapshots, str),
    RecoverDisk: CloudRequest(Act.OPERATE, RequestHandlers.recover_disk, str),
}
"""Each request: the permission that it needs, its handler, and the type of its answer."""
