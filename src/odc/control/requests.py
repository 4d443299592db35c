"""Handles clients' requests exactly once. What each request does is in `request_handlers.py`.

A client makes the id of its request, and sends the request again if the connection is lost before the answer. So the
request and its answer are committed in one transaction with what the request changes. If the id is found in the store,
the earlier attempt was committed, and its answer is given again; if not, nothing of it was committed. The id is unique
in the store: of two attempts at the same moment one gets a conflict, tries again, and finds the other's answer.

A request that changes more than one transaction holds is committed in parts, the last one with the request. Until then
a repeat goes on where the earlier attempt stopped.

No request waits for work: the answer is the record, and the passes do the work. Refusals are not stored, because they
changed nothing: a repeat is decided again. Stored requests are pruned after `REQUEST_RETENTION`, far later than any
client repeats one.
"""

from __future__ import annotations

import hashlib
import random
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from odc.control.authorization import Authorizer
from odc.control.context import Policy, Ports
from odc.control.request_handlers import REQUESTS, Answer, RequestHandlers
from odc.control.status_records import StatusRecords
from odc.control.sweeps import Sweeps
from odc.domain import errors
from odc.domain.access import Principal
from odc.domain.commands import Command, Part
from odc.domain.errors import Conflict, InvalidRequest, NotAllowed, NotFound, RequestError
from odc.domain.records import RequestRecord
from odc.domain.requests import Request
from odc.domain.reservation import Reservation
from odc.domain.user import User

MAX_TRIES = 12
REQUEST_RETENTION = timedelta(days=1)
"""How long a request is kept with its answer; then the passes delete it."""
FIRST_BACKOFF = timedelta(milliseconds=2)
"""Upper bound of the first delay after a conflict. It doubles with each conflict, and each delay is random below it, so
that the same writers do not collide again."""
MAX_BACKOFF = timedelta(milliseconds=50)


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer as it is stored with the request; `REQUESTS` defines which field is used.

    A reservation is stored as its id, and the caller's own record not at all: a repeat shows both as they are now.
    The parts are those of the message if it has commands in it. Version 0.1.0 stored refusals too, with the class of
    the error.
    """

    reservation: str = ""
    message: str = ""
    parts: tuple[Part, ...] = ()
    error: str = ""
    hints: tuple[tuple[str, str], ...] = ()


class Requests:
    """Decides on requests. May be called by several threads at once."""

    def __init__(
        self, ports: Ports, policy: Policy, status: StatusRecords, sweeps: Sweeps, authorizer: Authorizer
    ) -> None:
        self._ports = ports
        self._sweeps = sweeps
        self._authorizer = authorizer
        self._handlers = RequestHandlers(ports, policy, status)

    def handle(self, caller: Principal, request_id: str, request: Request) -> Answer:
        """Execute a request exactly once.

        Args:
            caller: as proved by the transport.
            request_id: made by the client; a repeat with the same id and the same content gives the same answer.
            request: the request.

        Returns:
            The reservation, the caller's user record, or a sentence.

        Raises:
            RequestError: refused; nothing was changed or stored, and a repeat is decided again.
            Conflict: every retry lost against other writers; nothing was changed.
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
            # Looked up again after each conflict: the other writer may have been a repeat of this request.
            known = self._ports.store.find_request(request_id)
            if known is not None:
                return self._repeat(caller, request, digest, known)
            try:
                return self._once(caller, request, row)
            except Conflict:
                longest = min(FIRST_BACKOFF * 2**tries, MAX_BACKOFF)
                self._ports.clock.pause(random.random() * longest)  # noqa: S311  # no secret
        raise Conflict("too many others change the same things at this moment", ("again", "the same command"))

    def _once(self, caller: Principal, request: Request, row: RequestRecord) -> Answer:
        effect = REQUESTS[type(request)].decide(self._handlers, self._authorizer, caller, request)
        answer = effect.answer
        stored = StoredAnswer(
            reservation=answer.id if isinstance(answer, Reservation) else "",
            message=f"{answer}" if isinstance(answer, str) else "",
            parts=answer.parts if isinstance(answer, Command) else (),
        )
        done = replace(row, answer=msgspec.json.encode(stored))
        for part in effect.parts:
            self._ports.store.commit(part)
            self._ports.wake.notify([record.id for record in part.reservations])
        self._ports.store.commit(replace(effect.change, request=done))
        # After the commit: a round that started before it would not see the change.
        for sweep in effect.sweeps:
            self._sweeps.ask(sweep)
        self._ports.wake.notify([record.id for record in effect.change.reservations])
        if isinstance(effect.answer, Reservation):
            # Read again, because the store gives a new reservation its place in line.
            return self._ports.store.find_reservation(effect.answer.id) or effect.answer
        return effect.answer

    def _repeat(self, caller: Principal, request: Request, digest: str, known: RequestRecord) -> Answer:
        """Return the earlier answer; the record that it refers to is shown in its current state."""
        if known.principal != caller.id:
            # Another user's request: its answer is not for this caller.
            raise NotAllowed(f"request id {known.id} is taken")
        if known.digest != digest:
            raise InvalidRequest(f"request id {known.id} was used for another request; make a new one")
        answer = msgspec.json.decode(known.answer, type=StoredAnswer)
        if answer.error:
            kind: type[RequestError] = getattr(errors, answer.error)
            raise kind(answer.message, *answer.hints)
        kind_of_answer = REQUESTS[type(request)].answer
        if kind_of_answer is str:
            return Command(answer.parts) if answer.parts else answer.message
        if kind_of_answer is User:
            return self._handlers.user_of(caller)
        record = self._ports.store.find_reservation(answer.reservation)
        if record is None:
            raise NotFound(f"request {known.id} made {answer.reservation}, which ended and was pruned since")
        return record


def check_request_id(request_id: str) -> None:
    """Raise InvalidRequest unless this is 32 hexadecimal digits."""
    if len(request_id) != 32 or set(request_id) - set("0123456789abcdef"):
        raise InvalidRequest("a request's id is 32 hexadecimal digits")
