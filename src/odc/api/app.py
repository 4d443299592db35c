"""The HTTP application: one message API, whatever the transport. Handlers only translate.

Who calls is what the transport proved: it stands in the connection's scope, never in a message. Blocking work runs in
threads; only `?wait=` waits, and on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Router, get, post
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.params import FromPath, FromQuery, JSONBody

from odc.api import views
from odc.api.error_responses import HANDLERS, documented
from odc.api.long_poll import Bell, Subscribe, leaving
from odc.api.messages.cloud import Availability, Health, StatusView
from odc.api.messages.requests import WAIT_LIMIT_S, Done, Envelope
from odc.api.messages.reservations import History, ReservationList, ReservationView
from odc.api.messages.storage import DiskList, StorageView
from odc.api.messages.users import Me, UserList
from odc.api.openapi import CONFIG, ClosedMessages, OpenWords
from odc.api.rates import FETCHES, Rates
from odc.api.request_body import MAX_BODY, StrictRequest
from odc.api.storage_views import storage_view
from odc.api.threads import Threads
from odc.control.queries import Queries
from odc.control.requests import Requests
from odc.domain.access import Principal
from odc.domain.errors import InvariantError
from odc.domain.requests import SetGithubUser
from odc.domain.reservation import Reservation
from odc.domain.user import User

ERRORS = documented()
Anyone = Request[Any, Any, Any]
HealthCheck = Callable[[], Health]


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Who the transport proved the caller to be.

    Raises:
        InvariantError: the transport let a connection in without saying whose it is.
    """
    principal = connection.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        raise InvariantError("a connection without a principal")
    return principal


class Handlers:
    """The routes, over the control plane."""

    def __init__(self, requests: Requests, queries: Queries, bell: Bell, health: HealthCheck) -> None:
        self.threads = Threads()
        self._requests = requests
        self._queries = queries
        self._bell = bell
        self._health = health
        self._fetches = Rates()

    def send(self, caller: Principal, envelope: Envelope) -> ReservationView | Me | Done:
        """Decide on one request.

        Raises:
            RateLimited: it would ask GitHub, and the caller does that too often.
        """
        if isinstance(envelope.request, SetGithubUser) and envelope.request.login:
            self._fetches.take(caller, FETCHES)
        match self._requests.handle(caller, envelope.id, envelope.request):
            case Reservation() as record:
                return self._view(caller, record.id)
            case User() as user:
                return views.me_view(user, caller)
            case message:
                return Done(message=message)

    def _view(self, caller: Principal, reference: str) -> ReservationView:
        return views.reservation_view(self._queries.find(caller, reference), caller, self._queries.status)

    async def reservation(
        self, caller: Principal, reference: str, wait_s: float, version: int, gone: asyncio.Future[None]
    ) -> ReservationView:
        """One reservation; with a wait, as soon as its version is above the given one, or the client has `gone`."""
        ring = self._bell.next_ring()
        view = await self.threads.run(caller, self._view, caller, reference)
        deadline = time.monotonic() + min(max(wait_s, 0.0), WAIT_LIMIT_S)
        while view.version <= version and not self._bell.closed and not gone.done():
            left = deadline - time.monotonic()
            if not left > 0:
                break
            await self._bell.wait(ring, left, gone)
            ring = self._bell.next_ring()
            if await self.threads.run(caller, self._queries.version, view.id) > version:
                view = await self.threads.run(caller, self._view, caller, view.id)
        return view

    def reservations(self, caller: Principal, user: str, ended: bool, status: str) -> ReservationList:
        """Many reservations."""
        statuses = frozenset(word for word in status.split(",") if word.strip())
        found = self._queries.reservations(caller, user, ended, statuses)
        look = self._queries.status
        return ReservationList(
            now=self._queries.now(),
            reservations=tuple(views.reservation_view(standing, caller, look) for standing in found),
        )

    def history(self, caller: Principal, reference: str) -> History:
        """The story of one."""
        return views.history_view(*self._queries.history(caller, reference))

    def avail(self) -> Availability:
        """What could be had."""
        return views.availability_view(self._queries.availability(), self._queries.now())

    def status(self) -> StatusView:
        """The cloud as a whole."""
        return views.status_view(self._queries.availability(), self._queries.status, self._queries.now())

    def disks(self, caller: Principal) -> DiskList:
        """The caller's disks."""
        use = self._queries.status.storage.use
        disks = tuple(views.disk_view(disk, holder, use) for disk, holder in self._queries.disks(caller))
        return DiskList(disks=disks)

    def storage(self, caller: Principal, keep: int, owner: str, disk: str) -> StorageView:
        """The disk storage, for operators."""
        accounts = self._queries.storage(caller, keep, owner, disk)
        return storage_view(accounts, self._queries.status.storage, self._queries.now())

    def me(self, caller: Principal) -> Me:
        """Who the caller is."""
        return views.me_view(self._queries.me(caller), caller)

    def users(self, caller: Principal) -> UserList:
        """Every user, for operators."""
        return UserList(users=tuple(views.user_view(account) for account in self._queries.users(caller)))

    def health(self) -> Health:
        """Whether the cloud takes requests."""
        return self._health()


def _routes(handlers: Handlers) -> list[Any]:
    run = handlers.threads.run

    @post("/requests", status_code=200, request_max_body_size=MAX_BODY, request_class=StrictRequest, responses=ERRORS)
    async def send(request: Anyone, data: JSONBody[Envelope]) -> ReservationView | Me | Done:
        """Ask for something; a repeat with the same id acts once."""
        caller = caller_of(request)
        return await run(caller, handlers.send, caller, data)

    @get("/reservations", responses=ERRORS)
    async def reservations(
        request: Anyone, user: FromQuery[str] = "me", all: FromQuery[bool] = False, status: FromQuery[str] = ""
    ) -> ReservationList:
        """Reservations by place in line: `user` is `me`, `all` or a name; `all` brings ended ones too."""
        caller = caller_of(request)
        return await run(caller, handlers.reservations, caller, user, all, status)

    @get("/reservations/{reference:str}", responses=ERRORS)
    async def reservation(
        request: Anyone, reference: FromPath[str], wait: FromQuery[float] = 0.0, version: FromQuery[int] = -1
    ) -> ReservationView:
        """One reservation; with `wait` (seconds), as soon as its version is above `version`."""
        async with leaving(request.receive) as gone:
            return await handlers.reservation(caller_of(request), reference, wait, version, gone)

    @get("/reservations/{reference:str}/history", responses=ERRORS)
    async def history(request: Anyone, reference: FromPath[str]) -> History:
        """What happened to a reservation."""
        caller = caller_of(request)
        return await run(caller, handlers.history, caller, reference)

    @get("/disks", responses=ERRORS)
    async def disks(request: Anyone) -> DiskList:
        """The caller's disks."""
        caller = caller_of(request)
        return await run(caller, handlers.disks, caller)

    @get("/storage", responses=ERRORS)
    async def storage(
        request: Anyone, keep: FromQuery[int] = 1, owner: FromQuery[str] = "", disk: FromQuery[str] = ""
    ) -> StorageView:
        """The disk storage, for operators; with the snapshots that a prune with the same arguments would delete."""
        caller = caller_of(request)
        return await run(caller, handlers.storage, caller, keep, owner, disk)

    return [send, reservations, reservation, history, disks, storage]


def _user_routes(handlers: Handlers) -> list[Any]:
    run = handlers.threads.run

    @get("/me", responses=ERRORS)
    async def me(request: Anyone) -> Me:
        """Who the caller is, as the server sees it."""
        caller = caller_of(request)
        return await run(caller, handlers.me, caller)

    @get("/users", responses=ERRORS)
    async def users(request: Anyone) -> UserList:
        """Every user with a record, for operators."""
        caller = caller_of(request)
        return await run(caller, handlers.users, caller)

    return [me, users]


def _cloud_routes(handlers: Handlers) -> list[Any]:
    """What everybody may know of the cloud."""
    run = handlers.threads.run

    @get("/avail", responses=ERRORS)
    async def avail(request: Anyone) -> Availability:
        """What could be had, by type, and when."""
        return await run(caller_of(request), handlers.avail)

    @get("/status", responses=ERRORS)
    async def status(request: Anyone) -> StatusView:
        """The cloud as a whole."""
        return await run(caller_of(request), handlers.status)

    @get("/health", responses=ERRORS)
    async def health(request: Anyone) -> Health:
        """Whether the cloud takes requests, and what it is made of."""
        return await run(caller_of(request), handlers.health)

    return [avail, status, health]


def build_app(requests: Requests, queries: Queries, subscribe: Subscribe, health: HealthCheck) -> Litestar:
    """The application.

    Args:
        requests: decides on requests.
        queries: answers questions.
        subscribe: hears the process's bell.
        health: says whether the cloud is ready.
    """
    bell = Bell(subscribe)
    handlers = Handlers(requests, queries, bell, health)
    routes = [*_routes(handlers), *_user_routes(handlers), *_cloud_routes(handlers)]
    config = AppConfig(
        route_handlers=[Router("/v1", route_handlers=routes)],
        exception_handlers=HANDLERS,
        on_startup=[bell.open],
        on_shutdown=[bell.close],
        openapi_config=CONFIG,
        plugins=[ClosedMessages(), OpenWords()],
        logging_config=None,
    )
    app = Litestar.from_config(config)
    app.state.bell = bell
    return app
