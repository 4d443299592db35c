"""The HTTP application: its routes, each with the function that answers it. Handlers only translate.

The caller is proved by the transport and passed in the connection's scope, never in a message. Handlers block, so they
run in the caller's threads; only `?wait=` waits on the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from litestar import Litestar, Request, Router, get, post
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation

from odc.api import views
from odc.api.error_responses import HANDLERS, documented
from odc.api.hints import done_view
from odc.api.long_poll import WakeListener, changed_or_over, client_disconnected
from odc.api.messages.cloud import Availability, Health, StatusView
from odc.api.messages.requests import WAIT_LIMIT_S, Done, Envelope
from odc.api.messages.reservations import History, ReservationPage, ReservationView
from odc.api.messages.storage import DiskList, StorageView
from odc.api.messages.users import Me, UserList
from odc.api.openapi import CONFIG, ClosedMessages, OpenEnums
from odc.api.rates import FETCHES, Rates
from odc.api.request_body import MAX_BODY, StrictRequest
from odc.api.storage_views import orphan_views, storage_view
from odc.api.threads import Threads
from odc.control.control_plane import ControlPlane
from odc.control.queries import ReservationPart
from odc.domain.access import Principal
from odc.domain.errors import InvalidRequest, InvariantError
from odc.domain.requests import SetGithubUser
from odc.domain.reservation import Reservation
from odc.domain.user import User

ERRORS = documented()
AnyRequest = Request[Any, Any, Any]
Caller = NamedDependency[SkipValidation[Principal]]
HealthCheck = Callable[[Principal], Health]
View = TypeVar("View")


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Return the caller, as proved by the transport.

    Raises:
        InvariantError: the transport let a connection in without saying whose it is.
    """
    principal = connection.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        raise InvariantError("a connection without a principal")
    return principal


def _caller(request: AnyRequest) -> Principal:
    return caller_of(request)


class Handlers:
    """One method for each route, over the control plane. Their docstrings are in the OpenAPI document."""

    def __init__(self, plane: ControlPlane, wake: WakeListener, health: HealthCheck) -> None:
        self.threads = Threads()
        self._requests = plane.requests
        self._queries = plane.queries
        self._wake = wake
        self._health = health
        self._fetches = Rates()

    def __deepcopy__(self, _: dict[int, Any]) -> Handlers:
        # The framework copies its routes, and with them the objects whose methods they call.
        return self

    def send(self, caller: Caller, data: JSONBody[Envelope]) -> ReservationView | Me | Done:
        """Ask for something; a repeat with the same id acts once."""
        if isinstance(data.request, SetGithubUser) and data.request.login:
            self._fetches.take(caller, FETCHES)
        match self._requests.handle(caller, data.id, data.request):
            case Reservation() as record:
                return self._view(caller, record.id)
            case User() as user:
                return views.me_view(user, caller)
            case message:
                return done_view(message)

    def _view(self, caller: Principal, reference: str) -> ReservationView:
        return views.reservation_view(self._queries.find(caller, reference), caller, self._queries.status)

    async def reservation(
        self,
        request: AnyRequest,
        caller: Caller,
        reference: FromPath[str],
        wait: FromQuery[float] = 0.0,
        version: FromQuery[int] = -1,
    ) -> ReservationView:
        """One reservation; with `wait` (0 to 30 seconds), as soon as its version is above `version`."""
        if not 0 <= wait <= WAIT_LIMIT_S:  # also false for a wait that is not a number
            raise InvalidRequest(f"wait must be 0 to {WAIT_LIMIT_S:.0f} seconds, not {wait:g}")
        if version < -1:
            raise InvalidRequest(f"version must be -1 or a version of the reservation, not {version}")
        async with client_disconnected(request.receive) as gone:
            return await self._await_change(caller, reference, wait, version, gone)

    async def _await_change(
        self, caller: Principal, reference: str, wait_s: float, version: int, gone: asyncio.Future[None]
    ) -> ReservationView:
        view = await self.threads.run(caller, self._view, caller, reference)
        deadline = time.monotonic() + wait_s
        if view.version > version or not wait_s:
            return view
        with self._wake.watch(view.id) as watcher:
            while not self._wake.closed and not gone.done():
                watcher.clear()
                # A change before the watch began, or one that this version includes already: a cheap read tells.
                if await self.threads.run(caller, self._queries.version, view.id) > version:
                    return await self.threads.run(caller, self._view, caller, view.id)
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                await changed_or_over(watcher, left, gone)
        return view

    def reservations(
        self,
        caller: Caller,
        user: FromQuery[str] = "me",
        all: FromQuery[bool] = False,
        status: FromQuery[str] = "",
        limit: FromQuery[int] = 0,
        page: FromQuery[str] = "",
    ) -> ReservationPage:
        """Reservations: `user` is `me`, `all` or a name; `all` brings ended ones too. With `limit`, so many are read,
        and those that match are returned, the live ones first, each newest place in line first; `page` is the `next`
        of the part before. Without, all in one answer, by place in line.
        """
        statuses = frozenset(word for word in status.split(",") if word.strip())
        if page and not limit:
            raise InvalidRequest("a page needs a limit: how many reservations are read for it")
        if limit:
            found = self._queries.reservation_page(caller, user, all, statuses, page, limit)
        else:
            found = ReservationPart(self._queries.reservations(caller, user, all, statuses), next="", ended_read=0)
        cluster = self._queries.status
        return ReservationPage(
            now=self._queries.now(),
            reservations=tuple(views.reservation_view(detail, caller, cluster) for detail in found.items),
            next=found.next,
            ended_read=found.ended_read,
        )

    def history(self, caller: Caller, reference: FromPath[str]) -> History:
        """What happened to a reservation."""
        return views.history_view(*self._queries.history(caller, reference))

    def disks(self, caller: Caller) -> DiskList:
        """The caller's disks."""
        use = self._queries.status.storage.use
        return DiskList(
            disks=tuple(views.disk_view(disk, holder, use) for disk, holder in self._queries.disks(caller)),
            orphaned=orphan_views(self._queries.orphaned_disks(caller)),
        )

    def storage(
        self, caller: Caller, keep: FromQuery[int] = 1, owner: FromQuery[str] = "", disk: FromQuery[str] = ""
    ) -> StorageView:
        """The disk storage, for operators; with the snapshots that a prune with the same arguments would delete."""
        usage = self._queries.storage(caller, keep, owner, disk)
        return storage_view(usage, self._queries.status.storage, self._queries.now())

    def me(self, caller: Caller) -> Me:
        """Who the caller is, as the server sees it."""
        return views.me_view(self._queries.me(caller), caller)

    def users(self, caller: Caller) -> UserList:
        """Every user with a record, for operators."""
        return UserList(users=tuple(views.user_view(account) for account in self._queries.users(caller)))

    def avail(self, caller: Caller) -> Availability:
        """What could be had, by type, and when."""
        return views.availability_view(self._queries.availability(), self._queries.now())

    def status(self, caller: Caller) -> StatusView:
        """The cloud as a whole."""
        return views.status_view(self._queries.availability(), self._queries.status, self._queries.now(), caller)

    def health(self, caller: Caller) -> Health:
        """Whether the cloud takes requests, and what it is made of."""
        return self._health(caller)


def _in_thread(threads: Threads, answer: Callable[..., View]) -> Callable[..., Awaitable[View]]:
    """Return an async handler of the same signature that runs the blocking one in one of the caller's threads."""

    @functools.wraps(answer)
    async def handler(caller: Principal, **arguments: Any) -> View:
        return await threads.run(caller, answer, caller, **arguments)

    return handler


def _routes(handlers: Handlers) -> list[Any]:
    """Return the whole API below `/v1`."""
    send = post(
        "/requests", status_code=200, request_max_body_size=MAX_BODY, request_class=StrictRequest, responses=ERRORS
    )
    reservation = get("/reservations/{reference:str}", responses=ERRORS)
    blocking: dict[str, Callable[..., Any]] = {
        "/reservations": handlers.reservations,
        "/reservations/{reference:str}/history": handlers.history,
        "/disks": handlers.disks,
        "/storage": handlers.storage,
        "/me": handlers.me,
        "/users": handlers.users,
        "/avail": handlers.avail,
        "/status": handlers.status,
        "/health": handlers.health,
    }
    return [
        send(_in_thread(handlers.threads, handlers.send)),
        reservation(handlers.reservation),
        *(get(path, responses=ERRORS)(_in_thread(handlers.threads, answer)) for path, answer in blocking.items()),
    ]


def build_app(plane: ControlPlane, health: HealthCheck) -> Litestar:
    """The application.

    Args:
        plane: handles requests and answers queries.
        health: returns whether the cloud is ready, as the given caller may see it.
    """
    wake = WakeListener(plane.ports.wake)
    handlers = Handlers(plane, wake, health)
    config = AppConfig(
        route_handlers=[Router("/v1", route_handlers=_routes(handlers))],
        dependencies={"caller": Provide(_caller, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        on_startup=[wake.open],
        on_shutdown=[wake.close],
        openapi_config=CONFIG,
        plugins=[ClosedMessages(), OpenEnums()],
        logging_config=None,
    )
    app = Litestar.from_config(config)
    app.state.wake = wake
    return app
