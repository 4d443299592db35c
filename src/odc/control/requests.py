"""What clients ask for, decided and committed together with its answer: a repeat gives the same answer and acts once.

Nobody waits inside a request: the answer is the record, and the passes do the work. Only what has an effect is kept:
a refused request changed nothing, so a repeat of it is decided again. A record is kept for
`REQUEST_RETENTION`, far longer than any client repeats.
"""

from __future__ import annotations

import hashlib
import random
import time
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from odc.control.authorization import Authorizer
from odc.control.clock_check import anchor_now
from odc.control.context import Policy, Ports, StatusCache
from odc.control.disk_usage import prune
from odc.control.orphaned_disks import recover
from odc.control.reserving import new_reservation
from odc.control.tasks import with_fetched
from odc.control.user_admin import Users
from odc.domain import errors, lifecycle
from odc.domain.access import Act, Principal
from odc.domain.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    ProviderUnavailable,
    RequestError,
)
from odc.domain.event_kind import EventKind
from odc.domain.names import check_github_user
from odc.domain.records import AuditEvent, Change, RequestRecord
from odc.domain.requests import (
    AcceptClock,
    Cancel,
    EndAll,
    ForgetUser,
    MoveUser,
    Operate,
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
from odc.domain.user import User
from odc.ports.key_source import FetchedKeys

MAX_TRIES = 12
REQUEST_RETENTION = timedelta(days=1)
"""How long a request is kept with its answer; then the passes delete it."""
FIRST_BACKOFF_S = 0.002
"""The first pause after a lost race; each is up to twice as long as the one before, so that losers stop meeting."""
MAX_BACKOFF_S = 0.05
MAX_OWN_KEYS = 50

Answer = Reservation | User | str


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request row keeps: a reference to what the request made. Version 0.1.0 kept refusals too."""

    reservation: str = ""
    message: str = ""
    error: str = ""
    hints: tuple[tuple[str, str], ...] = ()


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a request does: the change to commit, and the answer once it is."""

    change: Change
    answer: Answer


class Requests:
    """Decides on requests. May be called by several threads at once."""

    def __init__(self, ports: Ports, policy: Policy, status: StatusCache, authorizer: Authorizer) -> None:
        self._ports = ports
        self._policy = policy
        self._status = status
        self._authorizer = authorizer
        self._users = Users(ports)

    def handle(self, caller: Principal, request_id: str, request: Request) -> Answer:
        """Do what is asked, once.

        Args:
            caller: as the transport proves.
            request_id: made by the client; a repeat with the same id and the same content gives the same answer.
            request: what is asked.

        Returns:
            The reservation, the caller's user record, or a sentence.

        Raises:
            RequestError: refused; nothing was changed or kept, and a repeat is decided again.
            Conflict: other writers were first, again and again; nothing was changed.
            ProviderUnavailable: the store or the key source does not answer; repeat with the same id.
        """
        check_request_id(request_id)
        self._authorizer.admit(caller)
        digest = hashlib.sha256(msgspec.json.encode(request)).hexdigest()
        row = RequestRecord(
            id=request_id,
            principal=caller.id,
            kind=type(request).__name__,
            digest=digest,
            received_at=self._ports.clock.now(),
            status=200,
            answer=b"",
        )
        for tries in range(MAX_TRIES):
            known = self._ports.store.find_request(request_id)
            if known is not None:
                return self._repeat(caller, digest, known)
            try:
                return self._once(caller, request, row)
            except Conflict:
                time.sleep(random.uniform(0, min(FIRST_BACKOFF_S * 2**tries, MAX_BACKOFF_S)))  # noqa: S311  # no secret
        raise Conflict("too many others change the same things at this moment", ("again", "the same command"))

    def _once(self, caller: Principal, request: Request, row: RequestRecord) -> Answer:
        effect = self._effect(caller, request)
        stored = StoredAnswer(
            reservation=effect.answer.id if isinstance(effect.answer, Reservation) else "",
            message=effect.answer if isinstance(effect.answer, str) else "",
        )
        done = replace(row, answer=msgspec.json.encode(stored))
        self._ports.store.commit(replace(effect.change, request=done))
        self._ports.wake.ring()
        if isinstance(effect.answer, Reservation):
            return self._ports.store.find_reservation(effect.answer.id) or effect.answer
        return effect.answer

    def _repeat(self, caller: Principal, digest: str, known: RequestRecord) -> Answer:
        """The answer that was given; what it refers to is shown as it is now."""
        if known.principal != caller.id:
            raise NotAllowed(f"request id {known.id} is taken")
        if known.digest != digest:
            raise InvalidRequest(f"request id {known.id} was used for another request; make a new one")
        answer = msgspec.json.decode(known.answer, type=StoredAnswer)
        if answer.error:
            kind: type[RequestError] = getattr(errors, answer.error)
            raise kind(answer.message, *answer.hints)
        if answer.reservation:
            record = self._ports.store.find_reservation(answer.reservation)
            if record is None:
                raise NotFound(f"request {known.id} made {answer.reservation}, which ended and was pruned since")
            return record
        return answer.message or self._user(caller)

    def _effect(self, caller: Principal, request: Request) -> Effect:
        match request:
            case Reserve():
                self._authorizer.require(caller, Act.CREATE)
                return self._reserve(caller, request)
            case Cancel():
                return self._cancel(caller, request)
            case SetGithubUser():
                self._authorizer.require(caller, Act.CREATE)
                return self._set_github_user(caller, request)
            case SetOwnKeys():
                self._authorizer.require(caller, Act.CREATE)
                return self._set_own_keys(caller, request)
            case AcceptClock():
                self._authorizer.require(caller, Act.OPERATE)
                self._ports.store.swap_clock_anchor(anchor_now(self._ports.clock))
                return Effect(change=Change(), answer="the clock is accepted; reservations end by it again")
            case EndAll() | ForgetUser() | MoveUser() | PruneSnapshots() | RecoverDisk():
                self._authorizer.require(caller, Act.OPERATE)
                return self._operate(caller, request)

    def _operate(self, caller: Principal, request: Operate) -> Effect:
        """What only operators may ask for."""
        if isinstance(request, EndAll):
            return self._end_all(caller)
        if isinstance(request, PruneSnapshots):
            change, told = prune(self._ports.store, request.keep, request.owner, request.disk)
            self._status.request_storage_maintenance()
            return Effect(change=change, answer=told)
        if isinstance(request, RecoverDisk):
            change, told = recover(self._ports, self._policy, request)
            self._status.request_storage_maintenance()
            return Effect(change=change, answer=told)
        user = self._users.find(request.user)
        if isinstance(request, MoveUser):
            change, told = self._users.move(user, request.to)
        else:
            change, told = self._users.forget(user, lambda record: self._ended(caller, record))
        return Effect(change=change, answer=told)

    def _user(self, caller: Principal) -> User:
        known = self._ports.store.find_user(caller.id)
        return known or User(principal=caller.id, name=caller.user)

    def _reserve(self, caller: Principal, request: Reserve) -> Effect:
        room = self._ports.store.room()
        if room.refuses:
            raise ProviderUnavailable(room.problem, ("an operator makes room", "sudo odc doctor"))
        change = new_reservation(caller, self._user(caller), request, self._ports, self._policy, self._status.current)
        return Effect(change=change, answer=change.reservations[0])

    def _cancel(self, caller: Principal, request: Cancel) -> Effect:
        record = self._authorizer.resolve(caller, request.reservation, Act.CHANGE)
        return Effect(change=self._ended(caller, record) if record.live else Change(), answer=record)

    def _ended(self, caller: Principal, record: Reservation) -> Change:
        """The change that ends a live reservation by its owner's or an operator's will; none if it is ending already.

        A queued one ends at once and releases its disk here; the others' disks are released when they are safe.
        """
        now = self._ports.clock.now()
        by = "" if caller.id == record.owner else caller.user
        event = lifecycle.EndRequested(at=now, why=EndReason.CANCELLED, cause=EndCause.CANCELLED, by=by)
        after = lifecycle.apply(record, event)
        if after == record:
            return Change()
        disks = [disk for disk in self._ports.store.list_disks(record.owner) if disk.id == record.disk_id]
        told = AuditEvent(
            reservation_id=record.id, at=now, actor=caller.user, kind=EventKind.CANCELLED, text="asked to end it"
        )
        return Change(
            reservations=(after,),
            disks=tuple(disk.released_by(record.id) for disk in disks if after.state is State.ENDED),
            events=(told,),
        )

    def _end_all(self, caller: Principal) -> Effect:
        changes = [self._ended(caller, record) for record in self._ports.store.observe().reservations]
        change = Change(
            reservations=tuple(record for change in changes for record in change.reservations),
            disks=tuple(disk for change in changes for disk in change.disks),
            events=tuple(event for change in changes for event in change.events),
        )
        return Effect(change=change, answer=f"ending: {len(changes)}; disks are kept")

    def _set_github_user(self, caller: Principal, request: SetGithubUser) -> Effect:
        user = self._user(caller)
        if not request.login:
            fresh = replace(user, github_user="", github_id=0, github_keys=(), github_fault="", github_fetched_at=None)
        else:
            login = check_github_user(request.login)
            fetched = self._fetched(login)
            fresh = with_fetched(replace(user, github_user=login, github_id=0), fetched.user_id, fetched.keys)
            fresh = replace(fresh, github_fetched_at=self._ports.clock.now())
        return Effect(change=Change(users=(fresh,)), answer=replace(fresh, version=fresh.version + 1))

    def _fetched(self, login: str) -> FetchedKeys:
        """The login's keys; without them a key of one's own opens boxes as well."""
        try:
            return self._ports.keys.fetch(login)
        except (NotFound, ProviderUnavailable) as error:
            own = ("a key of your own", "gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub")
            raise type(error)(error.message, *error.hints, own) from error

    def _set_own_keys(self, caller: Principal, request: SetOwnKeys) -> Effect:
        if len(request.keys) > MAX_OWN_KEYS:
            raise InvalidRequest(f"{len(request.keys)} keys are too many; at most {MAX_OWN_KEYS}")
        keys = tuple(dict.fromkeys(parse_public_key(line) for line in request.keys))
        fresh = replace(self._user(caller), own_keys=keys)
        return Effect(change=Change(users=(fresh,)), answer=replace(fresh, version=fresh.version + 1))


def check_request_id(request_id: str) -> None:
    """Raise InvalidRequest unless this is 32 hexadecimal digits."""
    if len(request_id) != 32 or set(request_id) - set("0123456789abcdef"):
        raise InvalidRequest("a request's id is 32 hexadecimal digits")
